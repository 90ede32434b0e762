# One program on an image without a shell: the C library, certificates and time zones, and nothing else. Runs as uid 65532,
# and writes nowhere but in the volume at /var/lib/gotel.
#
#   docker build -t gotel .

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
# Dependencies first, in a layer that stays as long as they do.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches/checkin tests/it && echo 'fn main() {}' | tee src/main.rs benches/checkin/main.rs tests/it/main.rs \
  && touch src/lib.rs && cargo build --release --locked --bin gotel && rm -r src benches tests
COPY . .
# Newer than what was built of nothing.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked --bin gotel

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/gotel /usr/local/bin/gotel
USER 65532:65532
EXPOSE 8080 8081
VOLUME /var/lib/gotel
ENV GOTEL_LISTEN=0.0.0.0:8080 GOTEL_DATA_DIR=/var/lib/gotel
ENTRYPOINT ["/usr/local/bin/gotel"]
CMD ["serve"]
