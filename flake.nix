{
  description = "Tuning bench for vLLM servers: measure, turn the knobs, prove which setting is better";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      eachSystem = make:
        builtins.listToAttrs (map
          (system: { name = system; value = make nixpkgs.legacyPackages.${system}; })
          systems);
      here = pkgs: self.packages.${pkgs.stdenv.hostPlatform.system}.default;

      crate = pkgs: more: pkgs.rustPlatform.buildRustPackage ({
        pname = "vllm-tuning-bench";
        version = (builtins.fromTOML (builtins.readFile ./Cargo.toml)).workspace.package.version;
        src = self;
        cargoLock.lockFile = ./Cargo.lock;
        doCheck = false; # in `checks`
      } // more);

      # A command that must succeed in the source, with every dependency at hand.
      check = pkgs: name: tools: command: crate pkgs {
        pname = "vllm-tuning-bench-${name}";
        nativeBuildInputs = tools;
        buildPhase = ''
          export HOME=$TMPDIR
          ${command}
        '';
        installPhase = "touch $out";
      };
    in
    {
      packages = eachSystem (pkgs: {
        default = crate pkgs {
          # What the program reads where there is no checkout.
          postInstall = ''
            bash scripts/install-share.sh $out
          '';
          meta.mainProgram = "xtask";
        };
      });

      apps = eachSystem (pkgs:
        let
          run = name: command: {
            type = "app";
            program = "${pkgs.writeShellScript name "exec ${here pkgs}/bin/xtask ${command} \"$@\""}";
          };
        in
        {
          default = run "xtask" "";
          suite = run "suite" "suite";
        });

      checks = eachSystem (pkgs: {
        package = here pkgs;
        fmt = check pkgs "fmt" [ pkgs.rustfmt ] "cargo fmt --all --check";
        clippy = check pkgs "clippy" [ pkgs.clippy ]
          "cargo clippy --workspace --all-targets --offline -- -D warnings";
        tests = check pkgs "tests" [ pkgs.python311 ] "cargo test --workspace --offline";
      });

      devShells = eachSystem (pkgs: {
        default = pkgs.mkShell {
          packages = [
            pkgs.cargo
            pkgs.rustc
            pkgs.clippy
            pkgs.rustfmt
            pkgs.cargo-insta
            pkgs.cargo-deny
            pkgs.uv
            pkgs.python311
          ];
          # uv takes this interpreter, not one that it downloads; PyTorch's wheels look for these.
          UV_PYTHON_DOWNLOADS = "never";
          LD_LIBRARY_PATH = "${pkgs.stdenv.cc.cc.lib}/lib:${pkgs.zlib}/lib:/run/opengl-driver/lib";
        };
      });
    };
}
