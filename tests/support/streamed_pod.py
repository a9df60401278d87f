"""A pod for clients that execute commands in it and have its port 18080 forwarded, which answers `served`."""

STREAMED = """
apiVersion: v1
kind: Pod
metadata: {name: streamed}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: none
      readinessProbe: {tcpSocket: {port: 18080}, periodSeconds: 1}
      command:
        - python3
        - -c
        - |
          import http.server, os
          class Handler(http.server.BaseHTTPRequestHandler):
              def do_GET(self):
                  self.send_response(200)
                  self.end_headers()
                  self.wfile.write(b"served\\n")
          http.server.ThreadingHTTPServer((os.environ["KUBECORE_POD_IP"], 18080), Handler).serve_forever()
"""
