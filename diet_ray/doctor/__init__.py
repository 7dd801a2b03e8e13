"""`diet doctor`: is this machine, and the cluster it joins, fit to run; and if not, what to do."""
