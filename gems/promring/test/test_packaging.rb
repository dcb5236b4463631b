# frozen_string_literal: true

# The gem as it is installed: what is in it, and what its build says when a tool is missing.

require "support/harness"

class TestPackaging < Minitest::Test
  SPEC = Gem.loaded_specs.fetch("promring")

  def test_the_version_is_the_crates
    assert_equal SPEC.version.to_s, Promring::VERSION
  end

  def test_it_holds_its_sources_and_licences_and_nothing_built
    files = Dir.glob("**/*", base: SPEC.full_gem_path)
    %w[lib/promring.rb lib/puma/plugin/promring.rb exe/promring sig/promring.rbs LICENSE-MIT LICENSE-APACHE
       ext/promring_native/extconf.rb ext/promring_native/rust/Cargo.lock ext/promring_native/rust/core/src/lib.rs
       ext/promring_native/rust/ruby-ext/src/hot.rs].each { |file| assert_includes files, file }
    assert_empty files.grep(%r{(\A|/)(target|test|tests|benches|python-ext)/|\.(o|gem)\z})
  end

  def test_without_cargo_its_build_says_what_to_do
    Dir.mktmpdir("promring-test-") do |directory|
      extconf = File.join(SPEC.full_gem_path, "ext/promring_native/extconf.rb")
      env = { "CARGO" => "#{directory}/no-cargo", "PROMRING_PLAIN" => "1" }
      out, status = Open3.capture2e(env, RbConfig.ruby, extconf, chdir: directory)
      refute_predicate status, :success?
      assert_match(/cargo is missing.*install Rust/m, out)
      refute_path_exists File.join(directory, "Makefile")
    end
  end
end
