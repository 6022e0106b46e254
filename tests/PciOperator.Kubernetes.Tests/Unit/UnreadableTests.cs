using System.Text;
using System.Text.Json;
using System.Threading.Channels;
using k8s.Models;
using Microsoft.Extensions.Logging;
using PciOperator.Testing;
using Prometheus;
using static PciOperator.Kubernetes.Tests.Unit.ScriptedServer;

namespace PciOperator.Kubernetes.Tests.Unit;

/// <summary>Whatever a server can store is read; what can't be read all the same stops nothing but itself.</summary>
public sealed class UnreadableTests
{
    /// <summary>What <c>format: date-time</c> and Go's own times let through.</summary>
    public static TheoryData<string, string?> Times() =>
        new()
        {
            { "2016-12-31t23:59:59z", "2016-12-31T23:59:59.0000000+00:00" },
            { "2016-12-31T23:59:59.123456789Z", "2016-12-31T23:59:59.1234567+00:00" },
            { "2016-12-31T23:59:59,5Z", "2016-12-31T23:59:59.5000000+00:00" },
            { "2016-12-31T23:59:59+23:59", "2016-12-31T00:00:59.0000000+00:00" },
            { "2016-12-31T23:59:59-99:99", "2017-01-05T04:38:59.0000000+00:00" },
            { "2016-12-31T23:59:60Z", "2016-12-31T23:59:59.0000000+00:00" },
            { "2016-12-31T23:59:59Ztail", "2016-12-31T23:59:59.0000000+00:00" },
            { "0000-01-01T00:00:00Z", "0001-01-01T00:00:00.0000000+00:00" },
            { "-0001-12-31T10:00:00Z", "0001-01-01T00:00:00.0000000+00:00" },
            { "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00.0000000+00:00" },
            { "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59.9999999+00:00" },
            { "10000-01-01T13:59:59Z", "9999-12-31T23:59:59.9999999+00:00" },
            { "123456789012345678901234567890-01-01T13:59:59Z", "9999-12-31T23:59:59.9999999+00:00" },
            { "2023-02-29T00:00:00Z", null },
            { "2023-13-01T00:00:00Z", null },
            { "2023-00-01T00:00:00Z", null },
            { "2023-01-00T00:00:00Z", null },
            { "2023-01-01T24:00:00Z", null },
            { "٢٠٢٣-01-01T00:00:00Z", null },
            { "yesterday", null },
            { "", null },
        };

    [Theory]
    [MemberData(nameof(Times))]
    public void Every_time_that_a_server_can_store_is_read_in_every_model(string text, string? expected)
    {
        string json = JsonSerializer.Serialize(text);
        V1Node node = Read<V1Node>(
            $$$"""{"metadata":{"creationTimestamp":{{{json}}} },"spec":{"taints":[{"key":"k","timeAdded":{{{json}}} }]},"status":{"conditions":[{"type":"Ready","lastHeartbeatTime":{{{json}}},"lastTransitionTime":{{{json}}} }]} }"""
        );
        V1Pod pod = Read<V1Pod>(
            $$$"""{"metadata":{"deletionTimestamp":{{{json}}} },"status":{"conditions":[{"type":"Ready","lastTransitionTime":{{{json}}} }]} }"""
        );
        V1Lease lease = Read<V1Lease>($$$"""{"metadata":{},"spec":{"acquireTime":{{{json}}},"renewTime":{{{json}}} } }""");
        V1Condition condition = Read<V1Condition>($$$"""{"type":"Ready","lastTransitionTime":{{{json}}} }""");
        DateTimeOffset? plain = JsonSerializer.Deserialize(
            json,
            EntityJson.OptionsWith(PlainJsonContext.Default).TypeInfo<DateTimeOffset?>()
        );
        DateTime?[] read =
        [
            node.Metadata.CreationTimestamp,
            node.Spec!.Taints![0].TimeAdded,
            node.Status!.Conditions![0].LastHeartbeatTime,
            node.Status.Conditions[0].LastTransitionTime,
            pod.Metadata.DeletionTimestamp,
            pod.Status!.Conditions![0].LastTransitionTime,
            lease.Spec!.AcquireTime,
            lease.Spec.RenewTime,
            plain?.UtcDateTime,
        ];
        Assert.All(read, time => Assert.Equal(expected, time is { } at ? new DateTimeOffset(at).ToString("o") : null));
        // The library's condition always has a time: none is its first moment.
        Assert.Equal(expected ?? DateTimeOffset.MinValue.ToString("o"), new DateTimeOffset(condition.LastTransitionTime).ToString("o"));
        // And what was read can be written.
        Assert.NotEmpty(JsonSerializer.Serialize(node, EntityJson.Options.TypeInfo<V1Node>()));
        Assert.NotEmpty(JsonSerializer.Serialize(lease, EntityJson.Options.TypeInfo<V1Lease>()));
    }

    [Theory]
    [InlineData("5")]
    [InlineData("null")]
    [InlineData("{\"a\":[1]}")]
    [InlineData("[]")]
    public void What_is_no_text_is_no_time(string json) =>
        Assert.Equal(
            (default(DateTime), "Ready"),
            Read<V1Condition>($$"""{"lastTransitionTime":{{json}},"type":"Ready"}""") is var read
                ? (read.LastTransitionTime, read.Type)
                : default
        );

    [Fact]
    public void What_was_read_without_a_time_is_written_as_a_time_that_a_server_takes() =>
        Assert.Contains(
            "\"lastTransitionTime\":\"0001-01-01T00:00:00Z\"",
            JsonSerializer.Serialize(
                Read<V1Condition>("""{"lastTransitionTime":"yesterday","type":"Ready"}"""),
                EntityJson.Options.TypeInfo<V1Condition>()
            ),
            StringComparison.Ordinal
        );

    [Theory]
    [InlineData("3", 3)]
    [InlineData("-1", -1)]
    [InlineData("1.0", 1)]
    [InlineData("1e3", 1000)]
    [InlineData("9223372036854775807", int.MaxValue)]
    [InlineData("-9223372036854775808", int.MinValue)]
    [InlineData("1e300", int.MaxValue)]
    [InlineData("-1e999", int.MinValue)]
    public void Every_whole_number_is_read(string json, int expected)
    {
        Assert.Equal(expected, Read<V1Lease>($$$"""{"metadata":{},"spec":{"leaseTransitions":{{{json}}} } }""").Spec!.LeaseTransitions);
        Assert.Equal(
            expected,
            (int)
                Math.Clamp(
                    Read<V1Lease>($$$"""{"metadata":{"generation":{{{json}}} } }""").Metadata.Generation!.Value,
                    int.MinValue,
                    int.MaxValue
                )
        );
    }

    [Theory]
    [InlineData("""{"metadata":{"name":"bad","namespace":"ns","uid":"u","resourceVersion":"8"},"data":{"d":[1]}}""")]
    [InlineData(
        """{"data":5,"metadata":{"resourceVersion":"8","labels":{"name":"no"},"ownerReferences":[{"name":"no"}],"uid":"u","namespace":"ns","name":"bad"}}"""
    )]
    [InlineData("""{"metadata":{"generation":"x","name":"bad","namespace":"ns","uid":"u","resourceVersion":"8"}}""")]
    public async Task One_item_that_cannot_be_read_is_named_and_the_others_are_listed(string bad)
    {
        using var stream = new MemoryStream(
            Encoding.UTF8.GetBytes(
                $$$"""{"metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"a"}},{{{bad}}},{"metadata":{"name":"b"}}]}"""
            )
        );
        EntityList<V1ConfigMap> list = await ListReader.ReadAsync<V1ConfigMap>(stream, EntityJson.Options, CancellationToken.None);
        Assert.Equal(["a", "b"], list.Items.Select(i => i.Metadata.Name));
        UnreadableObject unreadable = Assert.Single(list.Unreadable);
        Assert.Equal((new EntityKey("ns", "bad"), "u", "8"), (unreadable.Key, unreadable.Uid, unreadable.ResourceVersion));
        Assert.NotEmpty(unreadable.Reason);
    }

    [Fact]
    public async Task Odd_items_do_not_end_a_list()
    {
        string deep = string.Concat(Enumerable.Repeat("""{"a":""", 500)) + "1" + new string('}', 500);
        using var stream = new MemoryStream(
            Encoding.UTF8.GetBytes(
                $$$"""{"metadata":{"resourceVersion":"9"},"items":[null,5,"x",[],{"metadata":null},{},{"metadata":{"name":"a","x":{{{deep}}} } },{"metadata":{"name":"a","name":"b"}}]}"""
            )
        );
        EntityList<V1ConfigMap> list = await ListReader.ReadAsync<V1ConfigMap>(stream, EntityJson.Options, CancellationToken.None);
        Assert.Equal("b", list.Items[^1].Metadata.Name);
        Assert.Contains(list.Unreadable, u => u.Key.Name == "a");
        Assert.Equal(5, list.Unreadable.Count);
    }

    [Fact]
    public async Task An_event_that_cannot_be_read_is_named_and_the_watch_goes_on()
    {
        const string text = """
            {"type":"MODIFIED","object":{"data":{"d":5},"metadata":{"name":"bad","namespace":"ns","uid":"u","resourceVersion":"8"}}}
            {"object":{"data":7,"metadata":{"name":"worse","resourceVersion":"9"}},"type":"ADDED"}
            {"type":"BOOKMARK","object":{"metadata":{"creationTimestamp":17,"resourceVersion":"10"}}}
            {"type":"DELETED","object":{"metadata":{"name":"a","resourceVersion":"11"}}}

            """;
        using var stream = new MemoryStream(Encoding.UTF8.GetBytes(text));
        var events = new List<string>();
        await foreach (WatchEvent<V1ConfigMap> e in WatchReader.ReadAsync<V1ConfigMap>(stream, EntityJson.Options, CancellationToken.None))
            events.Add($"{e.Type} {e.ResourceVersion} {e.Object?.Metadata.Name ?? "-"} {e.Unreadable?.Key.ToString() ?? "-"}");
        Assert.Equal(["Modified 8 - ns/bad", "Added 9 - worse", "Bookmark 10 - -", "Deleted 11 a -"], events);
    }

    [Fact]
    public async Task An_error_event_whose_status_cannot_be_read_is_an_error_of_the_server()
    {
        using var stream = new MemoryStream(Encoding.UTF8.GetBytes("{\"type\":\"ERROR\",\"object\":{\"code\":[1]}}\n"));
        ApiException error = await Assert.ThrowsAsync<ApiException>(async () =>
        {
            await foreach (
                WatchEvent<V1ConfigMap> _ in WatchReader.ReadAsync<V1ConfigMap>(stream, EntityJson.Options, CancellationToken.None)
            ) { }
        });
        Assert.Equal(500, (int)error.StatusCode);
    }

    [Fact]
    public async Task A_cache_keeps_what_it_knew_of_an_object_that_can_no_longer_be_read_until_it_is_gone()
    {
        var server = new ScriptedServer();
        CollectorRegistry metrics = Metrics.NewCustomRegistry();
        using var log = new MemoryStream();
        using ILoggerFactory loggers = KubernetesLogging.Create(log);
        await using var cache = new WatchCache<V1ConfigMap>(
            server,
            "ns",
            time: new FakeTimeProvider(),
            metrics: metrics,
            logger: loggers.CreateLogger("cache")
        );
        var changes = Channel.CreateUnbounded<string>();
        cache.OnChange(c => changes.Writer.TryWrite($"{c.Kind} {(c.New ?? c.Old)!.Metadata.Name}"));
        async Task NextIsAsync(string expected) =>
            Assert.Equal(expected, await changes.Reader.ReadAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(30)));
        server.NextList(new EntityList<V1ConfigMap>([Map("a", 3)], "10") { Unreadable = [Unread("bad", 4)] });
        _ = cache.RunAsync(CancellationToken.None);
        await NextIsAsync("Added a");
        Assert.True(cache.IsUnreadable("bad", "ns"));
        Assert.False(cache.IsUnreadable("a", "ns"));
        Assert.Null(cache.Get("bad", "ns"));

        ScriptedWatch watch = await server.WatchOpenedAsync();
        watch.Unreadable(WatchEventType.Modified, Unread("a", 11));
        watch.Send(WatchEventType.Added, Map("b", 12));
        await NextIsAsync("Added b");
        Assert.Equal("3", cache.Get("a", "ns")!.Metadata.ResourceVersion);
        Assert.Equal(["a", "bad"], cache.Unreadable.Select(u => u.Key.Name).Order());
        string text = MetricsTests.Text(metrics);
        Assert.Contains("pcioperator_watch_cache_unreadable_objects{kind=\"ConfigMap\"} 2", text, StringComparison.Ordinal);
        Assert.Contains("pcioperator_watch_cache_unreadable_total{kind=\"ConfigMap\"} 2", text, StringComparison.Ordinal);
        Assert.Contains("ns/bad", Encoding.UTF8.GetString(log.ToArray()), StringComparison.Ordinal);

        // Readable again; then unreadable, and gone; and another of the same name.
        watch.Send(WatchEventType.Modified, Map("bad", 13));
        await NextIsAsync("Added bad");
        watch.Unreadable(WatchEventType.Modified, Unread("bad", 14));
        watch.Unreadable(WatchEventType.Deleted, Unread("bad", 15));
        await NextIsAsync("Deleted bad");
        watch.Unreadable(WatchEventType.Added, Unread("a", 16, "uid-2"));
        await NextIsAsync("Deleted a");
        Assert.Equal(["a"], cache.Unreadable.Select(u => u.Key.Name));

        server.NextList(new EntityList<V1ConfigMap>([Map("b", 12)], "30") { Unreadable = [Unread("b", 20)] });
        watch.Fail(FakeClient.Error(410, "Expired"));
        await server.WatchOpenedAsync();
        Assert.NotNull(cache.Get("b", "ns"));
        Assert.Equal(["b"], cache.Unreadable.Select(u => u.Key.Name));
    }

    [Fact]
    public void An_object_that_an_index_cannot_take_is_unreadable_and_the_others_are_there()
    {
        var unreadable = new List<UnreadableObject>();
        var store = new ObjectStore<V1ConfigMap>(_ => { }, unreadable.Add);
        store.AddIndex("data", m => m.Data!.Values.Select(v => v.Trim()));
        store.Replace(new EntityList<V1ConfigMap>([Map("a", 1, data: "x"), Map("bad", 2), Map("c", 3, data: "x")], "5"));
        store.Apply(new WatchEvent<V1ConfigMap>(WatchEventType.Added, Map("worse", 6), "6"));
        store.Observe(Map("worst", 7));
        store.Apply(new WatchEvent<V1ConfigMap>(WatchEventType.Added, Map("d", 8, data: "x"), "8"));
        Assert.Equal(["a", "c", "d"], store.ByIndex("data", "x").Select(m => m.Metadata.Name!).Order());
        Assert.Equal(["bad", "worse", "worst"], unreadable.Select(u => u.Key.Name));
    }

    private static UnreadableObject Unread(string name, int version, string? uid = null) =>
        new(new EntityKey("ns", name), uid ?? $"uid-{name}", version.ToString(), "a test's reason");

    private static T Read<T>(string json)
        where T : class => JsonSerializer.Deserialize(json, EntityJson.Options.TypeInfo<T>())!;
}

[System.Text.Json.Serialization.JsonSerializable(typeof(DateTimeOffset?))]
internal sealed partial class PlainJsonContext : System.Text.Json.Serialization.JsonSerializerContext;
