# The Prometheus of the lab as an image: the binary that medley.lab.tools finds or builds is all of its context.
FROM scratch
COPY prometheus /prometheus
USER 65532:65532
ENTRYPOINT ["/prometheus"]
