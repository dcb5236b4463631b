# frozen_string_literal: true

# Writes the Makefile that builds the native extension by cargo; through the rb_sys gem where there is one.
# PROMRING_PLAIN=1 does without it. CARGO names another cargo, CARGO_TARGET_DIR where it builds.

require "mkmf"

# In a checkout the crate stands beside gems/, in a packaged gem it is staged next to this file.
crate = ["rust/ruby-ext", "../../../../ruby-ext"].find { |path| File.exist?(File.join(__dir__, path, "Cargo.toml")) }
cargo = ENV.fetch("CARGO", "cargo")

def stop_because(what, remedy)
  abort "promring: #{what}.\nIts native extension is built by cargo: #{remedy}."
end

def libclang?
  return true if ENV["LIBCLANG_PATH"]

  places = %w[/usr/lib/llvm-*/lib /usr/lib /usr/lib64 /usr/lib/*-linux-* /usr/local/lib /opt/*/lib]
  Dir.glob(places.map { |place| "#{place}/libclang{,-*}.{so,dylib}*" }).any? ||
    IO.popen(%w[ldconfig -p], err: File::NULL, &:read).include?("libclang")
rescue SystemCallError
  false
end

def rb_sys?
  return false if ENV["PROMRING_PLAIN"]

  require "rb_sys/mkmf"
  true
rescue LoadError
  false
end

# The Makefile for RubyGems: `make`, `make install`, `make clean`, with its `sitearchdir` and DESTDIR.
def plain_makefile(cargo, manifest)
  config = RbConfig::MAKEFILE_CONFIG.merge(RbConfig::CONFIG)
  library = "libpromring_native.#{config['SOEXT'] || 'so'}"
  <<~MAKE
    sitearchdir = #{config['sitearchdir']}
    TARGET_DIR = #{ENV.fetch('CARGO_TARGET_DIR', 'target')}
    SO = promring_native.#{config['DLEXT']}
    export RUBY = #{RbConfig.ruby}
    #{'export RUBY_STATIC = true' if config['ENABLE_SHARED'] == 'no'}

    $(SO):
    \t#{cargo} rustc --lib --crate-type cdylib --release --locked --manifest-path "#{manifest}" --target-dir "$(TARGET_DIR)"
    \tcp "$(TARGET_DIR)/#{[ENV['CARGO_BUILD_TARGET'], 'release'].compact.join('/')}/#{library}" $(SO)

    install: $(SO)
    \tmkdir -p "$(DESTDIR)$(sitearchdir)/promring"
    \tcp $(SO) "$(DESTDIR)$(sitearchdir)/promring/"
    \trm -rf target $(SO)

    clean:
    \trm -rf target $(SO)

    .PHONY: install clean $(SO)
  MAKE
end

unless system(cargo, "--version", out: File::NULL, err: File::NULL)
  stop_because("cargo is missing", "install Rust 1.87 or later (https://rustup.rs), then try again")
end
unless libclang?
  stop_because("libclang is missing",
               "Ruby's headers are read by it. Install libclang-dev (Debian), clang-devel (Fedora), or set LIBCLANG_PATH")
end

if rb_sys?
  create_rust_makefile("promring/promring_native") do |rust|
    rust.ext_dir = "./#{crate}" # rb_sys strips one leading dot
    rust.extra_cargo_args += ["--locked"]
  end
else
  File.write("Makefile", plain_makefile(cargo, File.join(__dir__, crate, "Cargo.toml")))
end
