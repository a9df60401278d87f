"""CustomResourceDefinitions: what upstream's pkg/apis/apiextensions/validation says of them, in its words.

Where it names fields of the internal version (conversion.webhookClientConfig, JSONPath), so does this.
"""
