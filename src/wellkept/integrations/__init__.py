"""wellkept for users of other libraries; each module imports its library, and only then is it needed."""
