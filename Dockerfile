# Two images: `speech` (the default) brings a local voice and recogniser, `static`
# is the program alone, for agents whose speech comes from services.

ARG GO_VERSION=1.26

FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH make build VERSION="$VERSION" \
 && mkdir -p /rootfs/var/lib/ivrbridge /rootfs/etc/ivrbridge

FROM scratch AS static
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /usr/local/go/lib/time/zoneinfo.zip /usr/share/zoneinfo.zip
COPY --from=build /src/LICENSE /src/NOTICE /usr/share/doc/ivrbridge/
COPY --from=build --chown=65532:65532 /rootfs/ /
COPY --from=build /src/bin/ivrbridge /usr/local/bin/
ENV ZONEINFO=/usr/share/zoneinfo.zip HOME=/var/lib/ivrbridge TMPDIR=/var/lib/ivrbridge PATH=/usr/local/bin
USER 65532:65532
WORKDIR /var/lib/ivrbridge
EXPOSE 5060/udp 5060/tcp 8080/tcp 8189/udp 8189/tcp
ENTRYPOINT ["/usr/local/bin/ivrbridge"]
CMD ["serve"]

FROM debian:12-slim AS speech
RUN --mount=type=bind,source=deploy/image,target=/image sh /image/install.sh system
COPY --from=build /src/LICENSE /src/NOTICE /usr/share/doc/ivrbridge/
RUN --mount=type=bind,source=deploy/image,target=/image --mount=type=bind,from=build,source=/src/bin,target=/programs \
    sh /image/install.sh program /programs
ENV ZONEINFO=/usr/share/zoneinfo.zip HOME=/var/lib/ivrbridge
COPY --from=build /usr/local/go/lib/time/zoneinfo.zip /usr/share/zoneinfo.zip
USER 65532:65532
WORKDIR /var/lib/ivrbridge
EXPOSE 5060/udp 5060/tcp 8080/tcp 8189/udp 8189/tcp
ENTRYPOINT ["/usr/local/bin/ivrbridge"]
CMD ["serve"]
