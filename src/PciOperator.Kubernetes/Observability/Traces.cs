using System.Diagnostics;
using System.Globalization;
using Microsoft.Extensions.Logging;
using OpenTelemetry;
using OpenTelemetry.Exporter;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

namespace PciOperator.Kubernetes;

/// <summary>
/// Sends a program's spans to an OpenTelemetry collector when OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, names one.
/// Without either nothing of it is loaded, and nobody listens to spans.
/// </summary>
public static class Traces
{
    /// <summary>What programs say of it in their help.</summary>
    public const string Help =
        "Spans are sent to the OpenTelemetry collector that OTEL_EXPORTER_OTLP_ENDPOINT names (docs/monitoring.md); without it there are none.";

    // .NET's own for requests of HttpClient.
    private const string Requests = "System.Net.Http";
    private const string Request = "System.Net.Http.HttpRequestOut";
    private const string Prefix = "OTEL_EXPORTER_OTLP_";
    private const string TracesPrefix = "OTEL_EXPORTER_OTLP_TRACES_";
    private const int LastWords = 2000;

    /// <summary>Begins to listen, if the environment says so; until the result is disposed of.</summary>
    /// <param name="program">The program's name: what the service is called unless OTEL_SERVICE_NAME says so.</param>
    /// <param name="instance">Who it is among its like.</param>
    /// <param name="source">Whose spans; requests to the API server in their course are among them.</param>
    /// <param name="log">Where it is said where they go, and that they don't arrive.</param>
    public static IDisposable? Start(string program, string instance, string source, ILogger log)
    {
        string? endpoint = Setting("ENDPOINT");
        if (endpoint is null || Is("OTEL_SDK_DISABLED", "true") || Is("OTEL_TRACES_EXPORTER", "none"))
            return null;
        if (!Uri.TryCreate(endpoint, UriKind.Absolute, out Uri? address) || address.Scheme is not ("http" or "https"))
        {
            log.LogError("Traces are off: '{Endpoint}' is no address of a collector; http://collector:4317 is one.", endpoint);
            return null;
        }

        return Listen(program, instance, source, log);
    }

    private static Listening Listen(string program, string instance, string source, ILogger log)
    {
        OtlpExporterOptions options = Options();
        var waiting = new BatchExportActivityProcessorOptions();
        var processor = new BatchActivityExportProcessor(
            new Exporter(options, log),
            waiting.MaxQueueSize,
            waiting.ScheduledDelayMilliseconds,
            waiting.ExporterTimeoutMilliseconds,
            waiting.MaxExportBatchSize
        );
        TracerProvider provider = Sdk.CreateTracerProviderBuilder()
            .SetResourceBuilder(
                ResourceBuilder
                    .CreateEmpty()
                    .AddService(
                        program,
                        serviceVersion: typeof(Traces).Assembly.GetName().Version?.ToString(3),
                        serviceInstanceId: instance
                    )
                    .AddTelemetrySdk()
                    .AddEnvironmentVariableDetector()
            )
            .AddSource(source, Requests)
            .SetSampler(new WithoutStrayRequests(Chosen(log)))
            .AddProcessor(processor)
            .Build();
        log.LogInformation("Traces go to {Endpoint} by {Protocol}.", options.Endpoint, options.Protocol);
        return new Listening(provider);
    }

    /// <summary>What the library reads, and what is said for traces alone, which counts more and is an address with its path.</summary>
    private static OtlpExporterOptions Options()
    {
        var options = new OtlpExporterOptions();
        if (Variable(TracesPrefix + "ENDPOINT") is { } endpoint)
            options.Endpoint = new Uri(endpoint);
        if (Variable(TracesPrefix + "HEADERS") is { } headers)
            options.Headers = headers;
        if (Variable(TracesPrefix + "TIMEOUT") is { } timeout && int.TryParse(timeout, CultureInfo.InvariantCulture, out int milliseconds))
            options.TimeoutMilliseconds = milliseconds;
        if (Variable(TracesPrefix + "PROTOCOL") is { } protocol)
            options.Protocol = protocol == "http/protobuf" ? OtlpExportProtocol.HttpProtobuf : OtlpExportProtocol.Grpc;
        return options;
    }

    /// <summary>
    /// The sampler that OTEL_TRACES_SAMPLER names. A claim's spans are either all taken or none, by whichever program they are: the decision
    /// follows from the trace's id, which is the claim's. Parents decide nothing, since nobody has asked for what we do.
    /// </summary>
    private static Sampler Chosen(ILogger log)
    {
        string? name = Variable("OTEL_TRACES_SAMPLER");
        switch (name)
        {
            case null or "always_on" or "parentbased_always_on":
                return new AlwaysOnSampler();
            case "always_off" or "parentbased_always_off":
                return new AlwaysOffSampler();
            case "traceidratio"
            or "parentbased_traceidratio"
                when double.TryParse(Variable("OTEL_TRACES_SAMPLER_ARG") ?? "1", CultureInfo.InvariantCulture, out double share)
                    && share is >= 0 and <= 1:
                return new TraceIdRatioBasedSampler(share);
            default:
                log.LogError(
                    "OTEL_TRACES_SAMPLER={Sampler} with OTEL_TRACES_SAMPLER_ARG={Share} is none that is known, or no share from 0 to 1: all traces are taken.",
                    name,
                    Variable("OTEL_TRACES_SAMPLER_ARG")
                );
                return new AlwaysOnSampler();
        }
    }

    private static string? Setting(string name) => Variable(TracesPrefix + name) ?? Variable(Prefix + name);

    private static string? Variable(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;

    private static bool Is(string name, string value) => string.Equals(Variable(name), value, StringComparison.OrdinalIgnoreCase);

    /// <summary>What is not sent in two seconds after the program's end is lost.</summary>
    private sealed class Listening(TracerProvider provider) : IDisposable
    {
        public void Dispose()
        {
            provider.Shutdown(LastWords);
            provider.Dispose();
        }
    }

    /// <summary>Requests in nobody's course (watches, the lease, events) are no traces of their own.</summary>
    private sealed class WithoutStrayRequests(Sampler inner) : Sampler
    {
        public override SamplingResult ShouldSample(in SamplingParameters samplingParameters) =>
            samplingParameters.Name == Request && samplingParameters.ParentContext.TraceId == default
                ? new SamplingResult(SamplingDecision.Drop)
                : inner.ShouldSample(in samplingParameters);
    }

    /// <summary>The library's, which says when spans don't arrive, and how long that has been so.</summary>
    private sealed class Exporter(OtlpExporterOptions options, ILogger log) : OtlpTraceExporter(options)
    {
        private static readonly TimeSpan BetweenWords = TimeSpan.FromMinutes(10);
        private readonly Uri _endpoint = options.Endpoint;
        private long _lost;
        private long? _said;

        public override ExportResult Export(in Batch<Activity> activityBatch)
        {
            ExportResult result = base.Export(in activityBatch);
            if (result == ExportResult.Success)
            {
                if (_said is not null)
                    log.LogInformation("Spans arrive at {Endpoint} again; {Count} were lost.", _endpoint, _lost);
                (_said, _lost) = (null, 0);
                return result;
            }

            _lost += activityBatch.Count;
            if (_said is null || Stopwatch.GetElapsedTime(_said.Value) > BetweenWords)
            {
                log.LogWarning(
                    "Spans don't arrive at {Endpoint}, and are lost ({Count} so far): does a collector listen there, and by the protocol that OTEL_EXPORTER_OTLP_PROTOCOL says (grpc or http/protobuf)?",
                    _endpoint,
                    _lost
                );
                _said = Stopwatch.GetTimestamp();
            }

            return result;
        }
    }
}
