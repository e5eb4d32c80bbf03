# Packer 1.7 and later have the QEMU builder in a plugin; 1.6 rejects this block and is not given this file.
packer {
  required_plugins {
    qemu = {
      version = "= 1.1.4"
      source  = "github.com/hashicorp/qemu"
    }
  }
}
