using System.Globalization;
using System.Text;
using System.Text.Json;
using k8s.Models;

namespace PciOperator.Kubernetes.Tests.Unit;

/// <summary>Lists and watches, read from streams that give as little at a time as they like.</summary>
public sealed class ReaderTests
{
    private static string Item(int number, int size) =>
        $$$"""{"metadata":{"name":"m{{{number}}}","labels":{"items":"]}"} },"data":{"d":"{{{new string('x', size)}}}"} }""";

    private static string List(int items, int size) =>
        $$$"""
            {"kind":"ConfigMapList","apiVersion":"v1","extra":[{"items":[1]}],
             "items":[{{{string.Join(",\n", Enumerable.Range(0, items).Select(i => Item(i, size)))}}}],
             "metadata":{"resourceVersion":"77","continue":"","remainingItemCount":3}}
            """;

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(4096)]
    [InlineData(int.MaxValue)]
    public async Task Lists_are_read_however_they_arrive(int chunk)
    {
        int size = chunk < 100 ? 100 : 200_000;
        using var stream = new Trickle(List(5, size), chunk);
        EntityList<V1ConfigMap> list = await ListReader.ReadAsync<V1ConfigMap>(stream, EntityJson.Options, CancellationToken.None);
        Assert.Equal(["m0", "m1", "m2", "m3", "m4"], list.Items.Select(m => m.Metadata.Name));
        Assert.All(list.Items, m => Assert.Equal(size, m.Data!["d"].Length));
        Assert.All(list.Items, m => Assert.Equal(("v1", "ConfigMap"), (m.ApiVersion, m.Kind)));
        Assert.Equal(("77", null, 3L), (list.Metadata.ResourceVersion, list.Metadata.ContinueProperty, list.Metadata.RemainingItemCount));
    }

    [Theory]
    [InlineData("[]")]
    [InlineData("""{"items":[}""")]
    public async Task What_is_no_list_is_said(string text)
    {
        using var stream = new Trickle(text, 3);
        await Assert.ThrowsAnyAsync<JsonException>(() =>
            ListReader.ReadAsync<V1ConfigMap>(stream, EntityJson.Options, CancellationToken.None)
        );
    }

    [Fact]
    public async Task A_list_that_breaks_off_anywhere_is_noticed()
    {
        string text = List(3, 10);
        for (int length = 0; length < text.Length - 1; length++)
        {
            using var stream = new Trickle(text[..length], 16);
            await Assert.ThrowsAsync<IOException>(() =>
                ListReader.ReadAsync<V1ConfigMap>(stream, EntityJson.Options, CancellationToken.None)
            );
        }
    }

    private static async Task<List<WatchEvent<V1ConfigMap>>> WatchAsync(string text, int chunk)
    {
        using var stream = new Trickle(text, chunk);
        var events = new List<WatchEvent<V1ConfigMap>>();
        await foreach (
            WatchEvent<V1ConfigMap> watchEvent in WatchReader.ReadAsync<V1ConfigMap>(stream, EntityJson.Options, CancellationToken.None)
        )
        {
            events.Add(watchEvent);
        }

        return events;
    }

    [Theory]
    [InlineData(1)]
    [InlineData(100)]
    [InlineData(int.MaxValue)]
    public async Task Watches_are_read_however_they_arrive(int chunk)
    {
        string large = new string('y', 100_000);
        string text = $$$$"""
            {"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"1"}}}
            {"object":{"metadata":{"name":"a","resourceVersion":"2"},"data":{"d":"{{{{large}}}}"} },"type":"MODIFIED"}

            {"type":"BOOKMARK","object":{"kind":"ConfigMap","spec":{"metadata":{"resourceVersion":"no"}},"metadata":{"annotations":{"resourceVersion":"no"},"resourceVersion":"3"}}}
            {"type":"DELETED","object":{"metadata":{"name":"a","resourceVersion":"4"}}}

            """;
        List<WatchEvent<V1ConfigMap>> events = await WatchAsync(text, chunk);
        Assert.Equal(["Added 1", "Modified 2", "Bookmark 3", "Deleted 4"], events.Select(e => $"{e.Type} {e.ResourceVersion}"));
        Assert.Equal(large, events[1].Object!.Data!["d"]);
        Assert.Equal("ConfigMap", events[3].Object!.Kind);
    }

    [Fact]
    public async Task An_error_event_is_an_exception_with_the_servers_code()
    {
        ApiException gone = await Assert.ThrowsAsync<ApiException>(() =>
            WatchAsync(
                """{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old resource version: 1 (5)"}}"""
                    + "\n",
                10
            )
        );
        Assert.True(gone.IsGone);
        Assert.Equal("too old resource version: 1 (5)", gone.Message);
        ApiException other = await Assert.ThrowsAsync<ApiException>(() =>
            WatchAsync("""{"object":{"kind":"Status","code":500},"type":"ERROR"}""" + "\n", 10)
        );
        Assert.Equal(500, (int)other.StatusCode);
        await Assert.ThrowsAsync<JsonException>(() => WatchAsync("{\"type\":\"NEW\",\"object\":{}}\n", 10));
        await Assert.ThrowsAsync<IOException>(() => WatchAsync("{\"type\":\"ADDED\"", 10));
    }

    [Fact]
    public void Times_are_written_as_the_server_keeps_them()
    {
        DateTime at = new DateTimeOffset(2026, 3, 4, 5, 6, 7, TimeSpan.FromHours(2)).AddTicks(1_234_567).UtcDateTime;
        var lease = new V1Lease
        {
            Metadata = new V1ObjectMeta { Name = "l", DeletionTimestamp = at },
            Spec = new V1LeaseSpec { RenewTime = at },
        };
        string json = JsonSerializer.Serialize(lease, EntityJson.Options.TypeInfo<V1Lease>());
        Assert.Contains("\"renewTime\":\"2026-03-04T03:06:07.123456Z\"", json, StringComparison.Ordinal);
        Assert.Contains("\"deletionTimestamp\":\"2026-03-04T03:06:07Z\"", json, StringComparison.Ordinal);
        Assert.DoesNotContain("null", json, StringComparison.Ordinal);
        V1Lease read = JsonSerializer.Deserialize(
            """{"metadata":{"creationTimestamp":null},"spec":{"renewTime":"2026-03-04T03:06:07.1Z"}}""",
            EntityJson.Options.TypeInfo<V1Lease>()
        )!;
        Assert.Null(read.Metadata.CreationTimestamp);
        Assert.Equal(at.AddTicks(-234_567), read.Spec!.RenewTime);
        Assert.Contains(
            "Widget",
            Assert.Throws<InvalidOperationException>(() => EntityJson.Options.TypeInfo<Contract.Widget>()).Message,
            StringComparison.Ordinal
        );
    }

    [Fact]
    public void Large_lists_are_read_without_large_arrays()
    {
        // 1.7 KB objects, as many as a busy cluster's page; a bound that a reader breaks which copies what it has read again and again.
        string item =
            $$"""{"metadata":{"name":"n","labels":{ {{string.Join(",", Enumerable.Range(0, 40).Select(i => string.Create(CultureInfo.InvariantCulture, $"\"label-{i}\":\"value-of-label-{i}\"")))}} } } }""";
        string text = $$"""{"items":[{{string.Join(",", Enumerable.Repeat(item, 20_000))}}],"metadata":{"resourceVersion":"1"} }""";
        using var stream = new MemoryStream(Encoding.UTF8.GetBytes(text));
        long before = GC.GetAllocatedBytesForCurrentThread();
        Task<EntityList<V1ConfigMap>> list = ListReader.ReadAsync<V1ConfigMap>(stream, EntityJson.Options, CancellationToken.None);
        Assert.True(list.IsCompletedSuccessfully);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 20L * text.Length);
    }

    /// <summary>A stream that gives a few bytes at a time.</summary>
    private sealed class Trickle(string text, int chunk) : MemoryStream(Encoding.UTF8.GetBytes(text))
    {
        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            base.ReadAsync(buffer[..Math.Min(buffer.Length, chunk)], cancellationToken);
    }
}
