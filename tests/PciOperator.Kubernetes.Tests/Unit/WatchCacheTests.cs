using System.Threading.Channels;
using k8s.Models;
using PciOperator.Testing;
using Prometheus;
using static PciOperator.Kubernetes.Tests.Unit.ScriptedServer;

namespace PciOperator.Kubernetes.Tests.Unit;

#pragma warning disable CA1001 // IAsyncLifetime disposes of it.
public sealed class WatchCacheTests : IAsyncLifetime
#pragma warning restore CA1001
{
    private readonly ScriptedServer _server = new();
    private readonly FakeTimeProvider _time = new();
    private readonly CollectorRegistry _metrics = Metrics.NewCustomRegistry();
    private readonly Channel<string> _changes = Channel.CreateUnbounded<string>();
    private WatchCache<V1ConfigMap> _cache = null!;

    public ValueTask InitializeAsync()
    {
        _cache = new WatchCache<V1ConfigMap>(_server, "ns", time: _time, metrics: _metrics, random: new Random(1));
        _cache.OnChange(c => _changes.Writer.TryWrite($"{c.Kind} {Show(c.Old)} {Show(c.New)}"));
        return ValueTask.CompletedTask;
    }

    public async ValueTask DisposeAsync() => await _cache.DisposeAsync();

    private static string Show(V1ConfigMap? map) => map is null ? "-" : $"{map.Metadata.Name}@{map.Metadata.ResourceVersion}";

    private async Task ChangesAreAsync(params string[] expected)
    {
        foreach (string change in expected)
            Assert.Equal(change, await _changes.Reader.ReadAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(30)));
    }

    private async Task<ScriptedWatch> StartAsync(int version, params V1ConfigMap[] items)
    {
        _server.NextList(version, items);
        _ = _cache.RunAsync(CancellationToken.None);
        await _cache.WaitForSyncAsync().WaitAsync(TimeSpan.FromSeconds(30));
        return await _server.WatchOpenedAsync();
    }

    /// <summary>A marker that has gone all the way through tells that everything before it has.</summary>
    private async Task SettleAsync(ScriptedWatch watch, int version)
    {
        watch.Send(WatchEventType.Added, Map($"marker{version}", version));
        await ChangesAreAsync($"Added - marker{version}@{version}");
    }

    [Fact]
    public async Task Lists_then_watches_from_the_lists_version()
    {
        ScriptedWatch watch = await StartAsync(10, Map("a", 3), Map("b", 7));
        Assert.Equal("10", watch.From);
        await ChangesAreAsync("Added - a@3", "Added - b@7");
        watch.Send(WatchEventType.Modified, Map("a", 11));
        watch.Send(WatchEventType.Deleted, Map("b", 12));
        watch.Send(WatchEventType.Added, Map("c", 13));
        await ChangesAreAsync("Updated a@3 a@11", "Deleted b@7 -", "Added - c@13");
        Assert.Equal(["a", "c"], _cache.List().Select(m => m.Metadata.Name!).Order());
        Assert.Equal("11", _cache.Get("a", "ns")!.Metadata.ResourceVersion);
        Assert.Null(_cache.Get("b", "ns"));
    }

    [Fact]
    public async Task Goes_on_after_the_last_bookmark_when_the_watch_ends()
    {
        ScriptedWatch watch = await StartAsync(10, Map("a", 3));
        watch.Bookmark(40);
        _time.Advance(TimeSpan.FromMinutes(1));
        watch.End();
        ScriptedWatch next = await _server.WatchOpenedAsync();
        Assert.Equal("40", next.From);
    }

    [Fact]
    public async Task A_broken_watch_is_taken_up_after_a_while_and_ever_later()
    {
        ScriptedWatch watch = await StartAsync(10);
        for (int attempt = 0; attempt < 4; attempt++)
        {
            watch.Fail(new HttpRequestException("broken"));
            (TimeSpan least, TimeSpan most) = (TimeSpan.FromMilliseconds(50 << attempt), TimeSpan.FromMilliseconds(100 << attempt));
            await _time.WaitForTimersAsync(delays => delays.Any(d => d >= least && d <= most));
            _time.Advance(most);
            watch = await _server.WatchOpenedAsync();
            Assert.Equal("10", watch.From);
        }
    }

    [Fact]
    public async Task Gone_means_a_new_list_with_the_deletions_and_updates_that_were_missed()
    {
        ScriptedWatch watch = await StartAsync(10, Map("kept", 1), Map("changed", 2), Map("deleted", 3), Map("remade", 4, "uid-1"));
        await ChangesAreAsync("Added - kept@1", "Added - changed@2", "Added - deleted@3", "Added - remade@4");
        _server.NextList(30, Map("kept", 1), Map("changed", 22), Map("remade", 25, "uid-2"), Map("new", 23));
        watch.Fail(FakeClient.Error(410, "Expired"));
        ScriptedWatch next = await _server.WatchOpenedAsync();
        Assert.Equal("30", next.From);
        await ChangesAreAsync(
            "Updated changed@2 changed@22",
            "Deleted remade@4 -",
            "Added - remade@25",
            "Added - new@23",
            "Deleted deleted@3 -"
        );
        Assert.Contains("pcioperator_watch_cache_lists_total{kind=\"ConfigMap\"} 2", MetricsTests.Text(_metrics), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Duplicates_change_nothing()
    {
        ScriptedWatch watch = await StartAsync(10, Map("a", 9));
        await ChangesAreAsync("Added - a@9");
        watch.Send(WatchEventType.Modified, Map("a", 12));
        watch.Send(WatchEventType.Modified, Map("a", 12));
        watch.Bookmark(12);
        watch.Send(WatchEventType.Deleted, Map("unknown", 13));
        await ChangesAreAsync("Updated a@9 a@12");
        await SettleAsync(watch, 14);
        Assert.Equal("12", _cache.Get("a", "ns")!.Metadata.ResourceVersion);
    }

    [Fact]
    public async Task An_object_deleted_and_made_again_is_two_changes_even_if_the_watch_shows_one()
    {
        ScriptedWatch watch = await StartAsync(10, Map("a", 9, "uid-1"));
        watch.Send(WatchEventType.Modified, Map("a", 15, "uid-2"));
        await ChangesAreAsync("Added - a@9", "Deleted a@9 -", "Added - a@15");
    }

    [Fact]
    public async Task An_observed_write_is_seen_at_once_and_older_events_do_not_undo_it()
    {
        ScriptedWatch watch = await StartAsync(10, Map("a", 9));
        await ChangesAreAsync("Added - a@9");
        long version = _cache.Version;
        _cache.Observe(Map("a", 20, data: "mine"));
        Assert.Equal("20", _cache.Get("a", "ns")!.Metadata.ResourceVersion);
        Assert.NotEqual(version, _cache.Version);
        await ChangesAreAsync("Updated a@9 a@20");

        watch.Send(WatchEventType.Modified, Map("a", 15));
        watch.Send(WatchEventType.Modified, Map("a", 20, data: "mine"));
        await SettleAsync(watch, 21);
        Assert.Equal("20", _cache.Get("a", "ns")!.Metadata.ResourceVersion);
        watch.Send(WatchEventType.Modified, Map("a", 22));
        await ChangesAreAsync("Updated a@20 a@22");
    }

    [Fact]
    public async Task An_answer_that_comes_later_than_its_events_is_no_news()
    {
        ScriptedWatch watch = await StartAsync(10, Map("a", 9));
        watch.Send(WatchEventType.Modified, Map("a", 15));
        watch.Send(WatchEventType.Deleted, Map("a", 16));
        await ChangesAreAsync("Added - a@9", "Updated a@9 a@15", "Deleted a@15 -");
        // The answer to the write that made version 15 arrives only now: the object must not rise from the dead.
        _cache.Observe(Map("a", 15));
        Assert.Null(_cache.Get("a", "ns"));
        _cache.Observe(Map("new", 16));
        Assert.Null(_cache.Get("new", "ns"));
        _cache.Observe(Map("new", 17));
        Assert.NotNull(_cache.Get("new", "ns"));
    }

    [Fact]
    public async Task A_deletion_takes_away_what_was_observed_but_not_its_successor()
    {
        ScriptedWatch watch = await StartAsync(10, Map("a", 9, "uid-1"), Map("b", 8, "uid-1"));
        await ChangesAreAsync("Added - a@9", "Added - b@8");
        _cache.Observe(Map("a", 20, "uid-1"));
        watch.Send(WatchEventType.Deleted, Map("a", 21, "uid-1"));
        await ChangesAreAsync("Updated a@9 a@20", "Deleted a@20 -");

        _cache.Observe(Map("b", 30, "uid-2"));
        await ChangesAreAsync("Deleted b@8 -", "Added - b@30");
        watch.Send(WatchEventType.Deleted, Map("b", 25, "uid-1"));
        watch.Send(WatchEventType.Added, Map("b", 30, "uid-2"));
        await SettleAsync(watch, 31);
        Assert.Equal("uid-2", _cache.Get("b", "ns")!.Metadata.Uid);
    }

    [Fact]
    public async Task A_new_list_keeps_what_was_observed_after_it()
    {
        ScriptedWatch watch = await StartAsync(10, Map("a", 9));
        await ChangesAreAsync("Added - a@9");
        _cache.Observe(Map("a", 50));
        _cache.Observe(Map("made", 51));
        _cache.Observe(Map("old", 11));
        await ChangesAreAsync("Updated a@9 a@50", "Added - made@51", "Added - old@11");
        _server.NextList(40, Map("a", 30));
        watch.Fail(FakeClient.Error(410, "Expired"));
        await _server.WatchOpenedAsync();
        await ChangesAreAsync("Deleted old@11 -");
        Assert.Equal("50", _cache.Get("a", "ns")!.Metadata.ResourceVersion);
        Assert.Equal("51", _cache.Get("made", "ns")!.Metadata.ResourceVersion);
    }

    [Fact]
    public async Task A_server_that_was_set_back_is_believed()
    {
        ScriptedWatch watch = await StartAsync(100, Map("a", 90));
        await ChangesAreAsync("Added - a@90");
        _server.NextList(5, Map("a", 3), Map("b", 4));
        watch.Fail(FakeClient.Error(410, "Expired"));
        watch = await _server.WatchOpenedAsync();
        Assert.Equal("5", watch.From);
        await ChangesAreAsync("Updated a@90 a@3", "Added - b@4");
        watch.Send(WatchEventType.Modified, Map("a", 6));
        await ChangesAreAsync("Updated a@3 a@6");
    }

    [Fact]
    public async Task Silence_for_too_long_is_taken_for_a_dead_connection()
    {
        ScriptedWatch watch = await StartAsync(10);
        await _time.WaitForTimerAsync(TimeSpan.FromMinutes(2.5));
        _time.Advance(TimeSpan.FromMinutes(2));
        watch.Bookmark(33);
        await SettleAsync(watch, 34);
        // Heard from meanwhile, so it still has its full time.
        await _time.WaitForTimerAsync(TimeSpan.FromMinutes(2.5));
        _time.Advance(TimeSpan.FromMinutes(2.5));
        await _time.WaitForTimersAsync(delays => delays.Any(d => d < TimeSpan.FromSeconds(1)));
        // A server that was set back is silent too, to whoever knows more than it: so everything is listed anew.
        _server.NextList(7, Map("a", 3));
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal("7", (await _server.WatchOpenedAsync()).From);
        Assert.Equal(["a@3"], _cache.List().Select(Show));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_bookmark_or_event_from_before_what_was_known_means_a_new_list(bool bookmark)
    {
        ScriptedWatch watch = await StartAsync(100, Map("a", 90, "uid-1"), Map("same", 3, data: "old"), Map("gone", 91));
        await ChangesAreAsync("Added - a@90", "Added - same@3", "Added - gone@91");
        _server.NextList(52, Map("a", 50, "uid-1"), Map("same", 3, data: "of another past"));
        if (bookmark)
            watch.Bookmark(51);
        else
            watch.Send(WatchEventType.Modified, Map("a", 50, "uid-1"));
        watch = await _server.WatchOpenedAsync();
        Assert.Equal("52", watch.From);
        await ChangesAreAsync("Updated a@90 a@50", "Updated same@3 same@3", "Deleted gone@91 -");
        Assert.Equal("of another past", _cache.Get("same", "ns")!.Data!["d"]);
        watch.Send(WatchEventType.Modified, Map("a", 53, "uid-1"));
        await ChangesAreAsync("Updated a@50 a@53");
    }

    [Fact]
    public async Task A_version_from_the_future_means_a_new_list()
    {
        ScriptedWatch watch = await StartAsync(100, Map("a", 90));
        await ChangesAreAsync("Added - a@90");
        _server.NextList(52, Map("a", 50));
        watch.Fail(
            new ApiException(
                System.Net.HttpStatusCode.GatewayTimeout,
                new V1Status
                {
                    Code = 504,
                    Reason = "Timeout",
                    Details = new V1StatusDetails
                    {
                        Causes = [new V1StatusCause { Reason = "ResourceVersionTooLarge", Message = "Too large resource version" }],
                    },
                }
            )
        );
        Assert.Equal("52", (await _server.WatchOpenedAsync()).From);
        await ChangesAreAsync("Updated a@90 a@50");
    }

    [Fact]
    public async Task It_says_when_what_it_has_may_be_old_and_when_it_was_last_heard_of()
    {
        Assert.Contains("first list", _cache.WhyOld(), StringComparison.Ordinal);
        Assert.Null(_cache.WhyStuck());
        ScriptedWatch watch = await StartAsync(10);
        Assert.Null(_cache.WhyOld());
        long first = _time.GetUtcNow().ToUnixTimeSeconds();
        Assert.Contains(
            $"pcioperator_watch_cache_last_success_timestamp_seconds{{kind=\"ConfigMap\"}} {first}",
            MetricsTests.Text(_metrics),
            StringComparison.Ordinal
        );
        await _time.WaitForTimerAsync(TimeSpan.FromMinutes(2.5));
        _time.Advance(TimeSpan.FromMinutes(2.5));
        await _time.WaitForTimersAsync(delays => delays.Any(d => d < TimeSpan.FromSeconds(1)));
        Assert.Null(_cache.WhyOld());
        _time.Advance(TimeSpan.FromMinutes(2));
        Assert.Contains("nothing was heard of configmaps for 270 s", _cache.WhyOld(), StringComparison.Ordinal);
        _server.NextList(
            new HttpRequestException("An error occurred while sending the request.", new IOException("The certificate has expired."))
        );
        await _time.WaitForTimersAsync(delays => delays.Any(d => d < TimeSpan.FromSeconds(1)));
        Assert.Contains("The certificate has expired.", _cache.WhyOld(), StringComparison.Ordinal);
        Assert.Null(_cache.WhyStuck());
        _server.NextList(11);
        _time.Advance(TimeSpan.FromSeconds(1));
        await _server.WatchOpenedAsync();
        Assert.Null(_cache.WhyOld());
    }

    [Fact]
    public async Task It_is_stuck_when_it_has_stopped_or_does_nothing()
    {
        using var stop = new CancellationTokenSource();
        Task run = _cache.RunAsync(stop.Token);
        Assert.Null(_cache.WhyStuck());
        _time.Advance(TimeSpan.FromMinutes(16));
        Assert.Contains("has done nothing for 960 s", _cache.WhyStuck(), StringComparison.Ordinal);
        await stop.CancelAsync();
        await run;
        Assert.Contains("has stopped", _cache.WhyStuck(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_failing_list_is_tried_again()
    {
        _server.NextList(new HttpRequestException("refused"));
        _server.NextList(FakeClient.Error(500, "InternalError"));
        _server.NextList(7, Map("a", 3));
        _ = _cache.RunAsync(CancellationToken.None);
        for (int i = 0; i < 2; i++)
        {
            await _time.WaitForTimersAsync(delays => delays.Count > 0);
            _time.Advance(TimeSpan.FromSeconds(1));
        }

        Assert.Equal("7", (await _server.WatchOpenedAsync()).From);
        await _cache.WaitForSyncAsync().WaitAsync(TimeSpan.FromSeconds(30));
        Assert.True(_cache.HasSynced);
    }

    [Fact]
    public async Task Indexes_follow_and_snapshots_stand_still()
    {
        _cache.AddIndex("data", m => m.Data?.Values ?? []);
        ScriptedWatch watch = await StartAsync(10, Map("a", 1, data: "x"), Map("b", 2, data: "x"), Map("c", 3));
        await ChangesAreAsync("Added - a@1", "Added - b@2", "Added - c@3");
        IReadOnlyCollection<k8s.Models.V1ConfigMap> before = _cache.ByIndex("data", "x");
        IReadOnlyCollection<k8s.Models.V1ConfigMap> all = _cache.List();
        Assert.Equal(["a", "b"], before.Select(m => m.Metadata.Name!).Order());
        watch.Send(WatchEventType.Modified, Map("a", 11, data: "y"));
        watch.Send(WatchEventType.Deleted, Map("b", 12, data: "x"));
        await ChangesAreAsync("Updated a@1 a@11", "Deleted b@2 -");
        Assert.Empty(_cache.ByIndex("data", "x"));
        Assert.Equal(["a"], _cache.ByIndex("data", "y").Select(m => m.Metadata.Name));
        Assert.Equal(2, before.Count);
        Assert.Equal(3, all.Count);
        Assert.Throws<ArgumentException>(() => _cache.ByIndex("none", "x"));
    }

    [Fact]
    public async Task A_late_handler_is_told_of_what_is_there_and_one_that_throws_harms_nobody()
    {
        _cache.OnChange(_ => throw new InvalidOperationException("a handler's mistake"));
        ScriptedWatch watch = await StartAsync(10, Map("a", 1));
        var late = Channel.CreateUnbounded<string>();
        _cache.OnChange(c => late.Writer.TryWrite($"{c.Kind} {Show(c.New)}"));
        Assert.Equal("Added a@1", await late.Reader.ReadAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(30)));
        watch.Send(WatchEventType.Modified, Map("a", 11));
        Assert.Equal("Updated a@11", await late.Reader.ReadAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(30)));
    }

    [Fact]
    public void Any_order_of_list_events_and_observations_ends_in_the_servers_state()
    {
        // A server's history of three names, told with duplicates, with breaks at random places, and with every write's
        // answer observed early or late.
        for (int seed = 0; seed < 300; seed++)
        {
            var random = new Random(seed);
            var history = new List<WatchEvent<V1ConfigMap>>();
            var state = new Dictionary<string, V1ConfigMap>();
            for (int version = 1; version <= 40; version++)
            {
                string name = "abc"[random.Next(3)].ToString();
                bool exists = state.TryGetValue(name, out V1ConfigMap? now);
                if (exists && random.Next(3) == 0)
                {
                    state.Remove(name);
                    history.Add(new(WatchEventType.Deleted, Map(name, version, now!.Metadata.Uid), $"{version}"));
                }
                else
                {
                    V1ConfigMap next = Map(name, version, exists ? now!.Metadata.Uid : $"uid-{version}");
                    state[name] = next;
                    history.Add(new(exists ? WatchEventType.Modified : WatchEventType.Added, next, $"{version}"));
                }
            }

            var changes = new Dictionary<string, V1ConfigMap>();
            var store = new ObjectStore<V1ConfigMap>(c =>
            {
                string name = (c.New ?? c.Old)!.Metadata.Name!;
                Assert.Equal(changes.GetValueOrDefault(name), c.Old);
                _ = c.New is null ? changes.Remove(name) : (changes[name] = c.New) is not null;
            });
            store.Replace(new EntityList<V1ConfigMap>([], "0"));
            for (int told = 0; told < history.Count; )
            {
                switch (random.Next(6))
                {
                    case 0 or 1 when random.Next(2) == 0 && told > 0:
                        store.Apply(history[random.Next(told)] is { Type: not WatchEventType.Deleted } old ? old : history[told - 1]);
                        break;
                    case 2:
                        WatchEvent<k8s.Models.V1ConfigMap> written = history[random.Next(Math.Min(history.Count, told + 5))];
                        if (written.Type != WatchEventType.Deleted)
                            store.Observe(written.Object!);
                        break;
                    case 3 when random.Next(8) == 0:
                        told = random.Next(told, history.Count + 1);
                        var moment = new Dictionary<string, V1ConfigMap>();
                        foreach (WatchEvent<k8s.Models.V1ConfigMap> e in history.Take(told))
                        {
                            _ =
                                e.Type == WatchEventType.Deleted
                                    ? moment.Remove(e.Object!.Metadata.Name!)
                                    : (moment[e.Object!.Metadata.Name!] = e.Object) is not null;
                        }

                        store.Replace(new EntityList<V1ConfigMap>([.. moment.Values], $"{told}"));
                        break;
                    default:
                        store.Apply(history[told++]);
                        break;
                }
            }

            Assert.Equal(state.Values.Select(Show).Order(), store.List().Select(Show).Order());
            Assert.Equal(state.Values.Select(Show).Order(), changes.Values.Select(Show).Order());
        }
    }
}
