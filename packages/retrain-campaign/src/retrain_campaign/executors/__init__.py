"""The systems that execute the runs of a campaign: local processes, Ray, or Slurm."""
