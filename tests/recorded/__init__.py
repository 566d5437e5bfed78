"""Numbers of MMDetection 2.28.2 and MMClassification 0.25.0 themselves, and a comparison of ours with them."""
