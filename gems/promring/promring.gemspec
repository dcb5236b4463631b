# frozen_string_literal: true

# The gem: Ruby files, and the Rust crates that ci/gem stages under ext/ for building from source.

rust = ["ext/promring_native/rust", "../.."].map { |path| File.expand_path(path, __dir__) }
                                            .find { |path| File.exist?(File.join(path, "Cargo.toml")) }

Gem::Specification.new do |gem|
  gem.name = "promring"
  gem.version = File.read(File.join(rust, "Cargo.toml"))[/^version = "(.*)"/, 1].sub("-", ".pre.")
  gem.summary = "Exact Prometheus metrics for pre-fork servers"
  gem.description = "Workers of Puma and Unicorn push their increments into a ring in shared memory; any process of " \
                    "the app answers one consolidated /metrics. Method signatures of prometheus-client, StatsD calls, Rack."
  gem.authors = ["the promring authors"]
  gem.licenses = ["MIT", "Apache-2.0"]
  gem.homepage = "https://github.com/promring/promring"
  gem.required_ruby_version = ">= 3.1"
  gem.metadata = { "rubygems_mfa_required" => "true" }

  gem.files = Dir.chdir(__dir__) { Dir["lib/**/*.rb", "exe/*", "sig/*", "ext/**/*", "README.md", "LICENSE-*"].select { |path| File.file?(path) } }
  gem.bindir = "exe"
  gem.executables = ["promring"]
  gem.extensions = ["ext/promring_native/extconf.rb"]
end
