# frozen_string_literal: true

# The errors that promring raises: at registration and for label sets, never for its own troubles.
module Promring
  # What is not one of the cases below.
  class Error < StandardError; end

  theirs = defined?(::Prometheus::Client::LabelSetValidator) && ::Prometheus::Client::LabelSetValidator

  # Where prometheus-client is loaded before, its classes are ours: a `rescue` of either kind catches both.
  if theirs
    LabelSetError = theirs::LabelSetError
    InvalidLabelSetError = theirs::InvalidLabelSetError
    InvalidLabelError = theirs::InvalidLabelError
    ReservedLabelError = theirs::ReservedLabelError
    AlreadyRegisteredError = ::Prometheus::Client::Registry::AlreadyRegisteredError
  else
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
  end

  # An `aggregation` that there is not, or that does not fit what is done.
  class InvalidStoreSettingsError < Error; end

  # The names under which prometheus-client has the same errors.
  module LabelSetValidator
    LabelSetError = Promring::LabelSetError
    InvalidLabelSetError = Promring::InvalidLabelSetError
    InvalidLabelError = Promring::InvalidLabelError
    ReservedLabelError = Promring::ReservedLabelError
  end
end
