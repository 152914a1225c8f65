# Stands for nixpkgs where it cannot be fetched: the few names that ../../flake.nix uses, built with
# the host's cargo and the crates that `cargo fetch` brought. For --impure and no sandbox.
{
  outputs = { self }:
    let
      packages = system:
        let
          host = variable: builtins.getEnv variable;
          build = name: script: more: derivation ({
            inherit system name;
            builder = "/bin/sh";
            args = [ "-e" "-c" script ];
            PATH = host "PATH";
            RUSTUP_HOME = host "RUSTUP_HOME";
            CARGO_HOME = host "CARGO_HOME";
            CARGO_TARGET_DIR = host "CARGO_TARGET_DIR";
            CARGO_NET_OFFLINE = "true";
          } // more) // { type = "derivation"; };
          # Evaluated only: what the host has instead is in PATH.
          empty = name: build name "mkdir $out" { };
        in
        {
          # A copy, since cargo goes by the times of files and those in the Nix store are all one.
          rustPlatform.buildRustPackage = crate: build "${crate.pname}-${crate.version}" ''
            cp -r ${crate.src} source
            chmod -R u+w source
            cd source
            ${crate.buildPhase or "cargo build --release --workspace"}
            ${crate.installPhase or ''
              mkdir -p $out/bin
              cp $CARGO_TARGET_DIR/release/xtask $CARGO_TARGET_DIR/release/bench $out/bin/
            ''}
            ${crate.postInstall or ""}
          '' { lock = builtins.readFile crate.cargoLock.lockFile; };
          writeShellScript = name: text: build name ''
            printf '#!/bin/sh\n%s\n' "$text" > $out
            chmod +x $out
          '' { inherit text; };
          mkShell = shell: build "shell" "mkdir $out" shell;
          stdenv = { hostPlatform = { inherit system; }; cc.cc.lib = empty "libstdc++"; };
        } // builtins.listToAttrs (map (name: { inherit name; value = empty name; })
          [ "cargo" "rustc" "clippy" "rustfmt" "cargo-insta" "cargo-deny" "uv" "python311" "zlib" ]);
    in
    {
      legacyPackages = builtins.listToAttrs
        (map (system: { name = system; value = packages system; }) [ "x86_64-linux" "aarch64-linux" ]);
    };
}
