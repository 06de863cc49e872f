"""What predicts, without torch: features, LNIRT, DKT's serving side, risk, runtime and artifacts."""
