# frozen_string_literal: true

# The errors that promring raises: at registration and for label sets, never for its own troubles.
module Promring
  # What is not one of the cases below.
  class Error < StandardError; end

  # Something is wrong with labels.
  class LabelSetError < Error; end

  # The labels given are not the metric's labels.
  class InvalidLabelSetError < LabelSetError; end

  # A label's name is not one.
  class InvalidLabelError < LabelSetError; end

  # A label's name is kept for Prometheus or for this type of metric.
  class ReservedLabelError < LabelSetError; end

  # The name is that of another metric; the message says of both what they are.
  class AlreadyRegisteredError < Error; end

  # An `aggregation` that there is not, or that does not fit what is done.
  class InvalidStoreSettingsError < Error; end

  # The names under which prometheus-client has the same errors.
  module LabelSetValidator
  end

  # Which classes the names above stand for.
  # @api private
  module Errors
    LABELS = %i[LabelSetError InvalidLabelSetError InvalidLabelError ReservedLabelError].freeze

    # From now on those of prometheus-client, if it is loaded: a `rescue` of either name catches both.
    def self.adopt
      theirs = defined?(::Prometheus::Client::LabelSetValidator) && ::Prometheus::Client::LabelSetValidator
      if theirs && theirs != LabelSetValidator
        LABELS.each { |name| redefine(Promring, name, theirs.const_get(name)) }
        redefine(Promring, :AlreadyRegisteredError, ::Prometheus::Client::Registry::AlreadyRegisteredError)
      end
      LABELS.each { |name| redefine(LabelSetValidator, name, Promring.const_get(name)) }
    end

    def self.redefine(place, name, error)
      place.send(:remove_const, name) if place.const_defined?(name, false)
      place.const_set(name, error)
    end
    private_class_method :redefine
  end

  Errors.adopt
end
