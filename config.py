"""A pyinfra started in this folder reads this before its inventory and its ``--data``: what is wrong with
them is told in a line.
"""

import sys

from hpcstate.inventory import refuse_cluster_file, refuse_wrong_data

refuse_cluster_file(sys.argv)
refuse_wrong_data(sys.argv)
