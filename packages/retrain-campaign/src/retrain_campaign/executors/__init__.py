"""What starts the runs of a campaign: processes of this machine, Ray, or Slurm."""
