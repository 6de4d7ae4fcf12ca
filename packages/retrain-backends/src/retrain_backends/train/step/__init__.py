"""The parts of one training step: samples, verdicts, advantages, the optimiser step."""
