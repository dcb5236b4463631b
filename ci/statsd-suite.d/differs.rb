# frozen_string_literal: true

# Runs statsd-instrument's suite with promring loaded before it, and holds it to a list of what differs: `gem.txt` where
# the gem is there, too, `stand_in.txt` where promring stands in for it.

# Its helper loads rubocop, which only the tests of its cops need (and which brings "time").
require "time"
%w[rubocop.rb rubocop/cop/legacy/corrector.rb].each { |feature| $LOADED_FEATURES << feature }
require "promring/statsd"
require_relative "../differs"

# An entry is a file or a test.
module Differs
  WAY = defined?(StatsD::Instrument::VERSION) ? "gem" : "stand_in"
  LIST = File.expand_path("#{WAY}.txt", __dir__)

  def self.listed
    @listed ||= read(LIST)
  end

  def self.run(way)
    raise "the #{WAY} is loaded, not the #{way}" unless way == WAY
    raise "promring is not in front" unless StatsD::Instrument::Client.ancestors.first == Promring::StatsD::FastPath

    files = Dir["test/**/*_test.rb"].sort
    left_out = listed.keys.select { |entry| entry.end_with?(".rb", "/") }
    gone = left_out.reject { |entry| files.any? { |file| file.start_with?("test/#{entry}") } }
    raise "the suite does not have #{gone.join(', ')}" unless gone.empty?

    files.reject { |file| left_out.any? { |entry| file.start_with?("test/#{entry}") } }.each { |file| require File.expand_path(file) }
    Minitest::Test.prepend(Expected)
    Minitest.after_run { tests_that_are_gone }
  end

  def self.tests_that_are_gone
    gone = listed.keys.grep(/#/) - Expected.seen
    return if gone.empty?

    warn "the suite does not have #{gone.join(', ')}"
    exit!(1)
  end

  # A listed test must fail: one that passes does not belong on the list.
  module Expected
    def self.seen
      @seen ||= []
    end

    def run
      name = "#{self.class}##{self.name}"
      result = super
      return result unless Differs.listed.key?(name)

      Expected.seen << name
      if result.failures.any?
        result.failures.clear
      else
        result.failures << Minitest::Assertion.new("passes, and is on the list of what differs")
      end
      result
    end
  end
end
