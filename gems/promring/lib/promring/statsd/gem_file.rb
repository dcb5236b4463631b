# frozen_string_literal: true

# Is the gem statsd-instrument there?

module Promring
  module StatsD
    # Its file, if it is to be had: that of the bundle, or of the gem installed where there is no bundle. Our own file
    # of that name may come first on the load path.
    # @api private
    def self.gem_file
      ours = File.expand_path("../..", __dir__)
      folder = $LOAD_PATH.find { |path| path.to_s != ours && File.file?("#{path}/statsd-instrument.rb") }
      folder ||= Gem::Specification.find_by_name("statsd-instrument").then do |spec|
        Kernel.gem(spec.name, spec.version)
        spec.full_require_paths.first
      end
      "#{folder}/statsd-instrument.rb"
    rescue LoadError
      nil
    end
  end
end
