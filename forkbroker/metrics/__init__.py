"""The helper that answers Prometheus: it asks the parent process as any client would, and looks at processes itself."""
