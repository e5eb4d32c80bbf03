"""What is: pyinfra facts. Each is one command on a host, with its parser in hpcstate.probe."""
