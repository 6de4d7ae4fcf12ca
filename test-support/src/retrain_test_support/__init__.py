"""Services that the tests of retrain talk to."""
