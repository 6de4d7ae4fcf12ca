"""The Tinker backend: a service trains and samples. The Tinker SDK is imported below here only."""
