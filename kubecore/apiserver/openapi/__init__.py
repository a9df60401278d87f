"""The API described in OpenAPI: v3 per group version, v2 as JSON and as gnostic protobuf."""
