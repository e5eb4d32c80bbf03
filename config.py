"""A pyinfra started in this folder reads this before its ``--data``: a wrong one is told in a line."""

import sys

from hpcstate.inventory import refuse_wrong_data

refuse_wrong_data(sys.argv)
