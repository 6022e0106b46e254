using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using Google.Protobuf;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace PciOperator.Tests.Tracing;

/// <summary>A span as it came over the wire.</summary>
internal sealed record ReceivedSpan
{
    public string TraceId { get; init; } = "";

    public string SpanId { get; init; } = "";

    /// <summary>Empty: it has none.</summary>
    public string ParentId { get; init; } = "";

    public string Name { get; init; } = "";

    public DateTimeOffset Start { get; init; }

    public DateTimeOffset End { get; init; }

    public Dictionary<string, string> Attributes { get; } = [];

    /// <summary>The status' sentence; null: it is no error.</summary>
    public string? Error { get; init; }

    /// <summary>Of whom it is.</summary>
    public required IReadOnlyDictionary<string, string> Resource { get; init; }
}

/// <summary>A collector of traces: OTLP over HTTP as protobuf, read by the field numbers of opentelemetry/proto/trace/v1/trace.proto.</summary>
internal sealed class Collector : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);
    private readonly WebApplication _app;
    private readonly ConcurrentQueue<ReceivedSpan> _spans = new();

    private Collector(WebApplication app) => _app = app;

    public string Endpoint { get; private set; } = "";

    /// <summary>The headers of the last request.</summary>
    public IReadOnlyDictionary<string, string> Headers { get; private set; } = new Dictionary<string, string>();

    public static async Task<Collector> StartAsync()
    {
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(k => k.Listen(IPAddress.Loopback, 0));
        WebApplication app = builder.Build();
        var collector = new Collector(app);
        app.Run(collector.TakeAsync);
        await app.StartAsync();
        collector.Endpoint = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        return collector;
    }

    /// <summary>A claim's spans, when those that are named have come.</summary>
    public async Task<IReadOnlyList<ReceivedSpan>> TraceAsync(string uid, params string[] names)
    {
        string id = Guid.Parse(uid).ToString("N");
        var began = Stopwatch.StartNew();
        while (true)
        {
            ReceivedSpan[] trace = [.. _spans.Where(s => s.TraceId == id)];
            if (names.All(n => trace.Any(s => s.Name == n)))
                return trace;
            if (began.Elapsed > Patience)
                Assert.Fail($"waited in vain for {string.Join(", ", names)}; these came: {string.Join(", ", trace.Select(s => s.Name))}");
            await Task.Delay(20);
        }
    }

    /// <summary>Spans of a name, of whatever trace, when there are some.</summary>
    public async Task<IReadOnlyList<ReceivedSpan>> OfAsync(string name, Func<ReceivedSpan, bool> which)
    {
        var began = Stopwatch.StartNew();
        while (true)
        {
            ReceivedSpan[] found = [.. _spans.Where(s => s.Name == name && which(s))];
            if (found.Length > 0)
                return found;
            Assert.True(began.Elapsed < Patience, $"waited in vain for {name}");
            await Task.Delay(20);
        }
    }

    public async ValueTask DisposeAsync() => await _app.DisposeAsync();

    private async Task TakeAsync(HttpContext context)
    {
        using var body = new MemoryStream();
        await context.Request.Body.CopyToAsync(body);
        if (context.Request.Path != "/v1/traces" || context.Request.ContentType != "application/x-protobuf")
        {
            context.Response.StatusCode = StatusCodes.Status404NotFound;
            return;
        }

        Headers = context.Request.Headers.ToDictionary(h => h.Key, h => h.Value.ToString(), StringComparer.OrdinalIgnoreCase);
        foreach (Message resourceSpans in Message.Read(body.ToArray()).Many(1))
        {
            var resource = resourceSpans.One(1).Many(1).ToDictionary(a => a.Text(1), Value);
            foreach (Message span in resourceSpans.Many(2).SelectMany(scope => scope.Many(2)))
                _spans.Enqueue(Span(span, resource));
        }
    }

    private static ReceivedSpan Span(Message span, Dictionary<string, string> resource)
    {
        Message status = span.One(15);
        const ulong error = 2;
        var read = new ReceivedSpan
        {
            TraceId = span.Hex(1),
            SpanId = span.Hex(2),
            ParentId = span.Hex(4),
            Name = span.Text(5),
            Start = Time(span.Number(7)),
            End = Time(span.Number(8)),
            Error = status.Number(3) == error ? status.Text(2) : null,
            Resource = resource,
        };
        foreach (Message attribute in span.Many(9))
            read.Attributes[attribute.Text(1)] = Value(attribute);
        return read;
    }

    private static DateTimeOffset Time(ulong nanoseconds) => DateTimeOffset.UnixEpoch.AddTicks((long)(nanoseconds / 100));

    private static string Value(Message attribute) =>
        attribute.One(2).Text(1) is { Length: > 0 } text ? text : $"{attribute.One(2).Number(3)}";

    /// <summary>A message of protobuf whose definition nobody has: its fields by number.</summary>
    private sealed class Message
    {
        private readonly List<(int Field, byte[] Bytes, ulong Number)> _fields = [];

        public static Message Read(byte[] bytes)
        {
            var message = new Message();
            var input = new CodedInputStream(bytes);
            while (input.ReadTag() is var tag and not 0)
            {
                int field = WireFormat.GetTagFieldNumber(tag);
                message._fields.Add(
                    WireFormat.GetTagWireType(tag) switch
                    {
                        WireFormat.WireType.LengthDelimited => (field, input.ReadBytes().ToByteArray(), 0),
                        WireFormat.WireType.Fixed64 => (field, [], input.ReadFixed64()),
                        WireFormat.WireType.Fixed32 => (field, [], input.ReadFixed32()),
                        WireFormat.WireType.Varint => (field, [], input.ReadUInt64()),
                        var other => throw new InvalidDataException($"field {field} is of type {other}"),
                    }
                );
            }

            return message;
        }

        public IEnumerable<Message> Many(int field) => _fields.Where(f => f.Field == field).Select(f => Read(f.Bytes));

        public Message One(int field) => Many(field).FirstOrDefault() ?? new Message();

        public string Text(int field) => System.Text.Encoding.UTF8.GetString(Bytes(field));

        public string Hex(int field) => Convert.ToHexStringLower(Bytes(field));

        public ulong Number(int field) => _fields.FirstOrDefault(f => f.Field == field).Number;

        private byte[] Bytes(int field) => _fields.FirstOrDefault(f => f.Field == field).Bytes ?? [];
    }
}
