from hpcstate.inventory import groups_of_environment

globals().update(groups_of_environment())
