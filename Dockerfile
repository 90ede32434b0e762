# One program on an image without a shell: the C library, certificates and time zones, and nothing else. Runs as uid 65532,
# and writes nowhere but in the volume at /var/lib/gotel.
#
#   docker build -t gotel .

FROM rust:1.95-bookworm AS build
WORKDIR /src
# Dependencies first, in a layer that stays as long as they do.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches/checkin tests/it && echo 'fn main() {}' | tee src/main.rs benches/checkin/main.rs tests/it/main.rs \
  && touch src/lib.rs && cargo build --release --locked --bin gotel && rm -r src benches tests
COPY . .
# Newer than what was built of nothing.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked --bin gotel
# All that the program needs of a system: what it is linked with, and certificates. (Time zones are in it.)
RUN mkdir -p /image/var/lib/gotel && cp --parents -L $(ldd target/release/gotel | grep -o '/[^ ]*') /etc/ssl/certs/ca-certificates.crt /image

FROM scratch
COPY --from=build /image /
COPY --from=build --chown=65532:65532 /image/var/lib/gotel /var/lib/gotel
COPY --from=build /src/target/release/gotel /usr/local/bin/gotel
USER 65532:65532
EXPOSE 8080 8081
VOLUME /var/lib/gotel
ENV GOTEL_LISTEN=0.0.0.0:8080 GOTEL_DATA_DIR=/var/lib/gotel
ENTRYPOINT ["/usr/local/bin/gotel"]
CMD ["serve"]
