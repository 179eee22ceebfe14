"""What `depthrank doctor` looks at: software, devices, places, speed. Each check returns findings and never raises."""
