# Burrow as one static program in an empty image, run by a user without rights.
# The defaults are those of config.toml; settings come from the environment
# (BURROW_HTTP_ADDR, …), or from a file that is mounted and named with -config.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags=-s -o /out/burrow ./cmd/app && mkdir /out/data /out/tmp

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --chown=65532:65532 /out/tmp /tmp
# A new volume here takes over the owner of the directory.
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build /out/burrow /burrow
USER 65532:65532
ENV BURROW_DATA_DIR=/data
VOLUME /data
EXPOSE 8000
# SIGTERM is an orderly stop, within shutdown.timeout (15 s).
STOPSIGNAL SIGTERM
ENTRYPOINT ["/burrow"]
