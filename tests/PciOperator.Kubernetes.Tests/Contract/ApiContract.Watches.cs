namespace PciOperator.Kubernetes.Tests.Contract;

public abstract partial class ApiContract
{
    private async Task<List<WatchEvent<Widget>>> WatchAsync(
        ListOptions options,
        Func<List<WatchEvent<Widget>>, bool> enough,
        Func<Task>? begun = null
    )
    {
        var events = new List<WatchEvent<Widget>>();
        await using IAsyncEnumerator<WatchEvent<Widget>> watch = Client.WatchAsync<Widget>(Ns, options, Ct).GetAsyncEnumerator(Ct);
        Task<bool> next = watch.MoveNextAsync().AsTask();
        if (begun is not null)
            await begun();
        while (await next)
        {
            events.Add(watch.Current);
            if (enough(events))
                break;
            next = watch.MoveNextAsync().AsTask();
        }

        return events;
    }

    private static IEnumerable<string> Story(IEnumerable<WatchEvent<Widget>> events) =>
        events.Where(e => e.Type != WatchEventType.Bookmark).Select(e => $"{e.Type} {e.Object!.Metadata.Name} {e.Object.Spec.Size}");

    [Fact]
    public async Task A_watch_tells_what_happens_after_the_list()
    {
        await CreateAsync("before", size: 0);
        EntityList<Widget> list = await Client.ListAsync<Widget>(Ns, ct: Ct);
        List<WatchEvent<Widget>> events = await WatchAsync(
            new ListOptions { ResourceVersion = list.Metadata.ResourceVersion },
            e => e.Count(x => x.Type != WatchEventType.Bookmark) == 4,
            async () =>
            {
                Widget a = await CreateAsync("a", size: 1);
                await Client.UpdateAsync(a with { Spec = a.Spec with { Size = 2 } }, Ct);
                await Client.PatchAsync<Widget>("before", Ns, EntityPatch.Merge("""{"spec":{"size":5}}"""), ct: Ct);
                await Client.DeleteAsync<Widget>("a", Ns, ct: Ct);
            }
        );
        Assert.Equal(["Added a 1", "Modified a 2", "Modified before 5", "Deleted a 2"], Story(events));
        var versions = events.Select(e => ulong.Parse(e.ResourceVersion)).ToList();
        Assert.Equal(versions.Order().Distinct(), versions);
        Assert.True(versions[0] > ulong.Parse(list.Metadata.ResourceVersion));

        // Taken up again in the middle, it tells the rest.
        List<WatchEvent<Widget>> rest = await WatchAsync(
            new ListOptions { ResourceVersion = events[1].ResourceVersion },
            e => Story(e).Count() == 2
        );
        Assert.Equal(["Modified before 5", "Deleted a 2"], Story(rest));
        Assert.Equal("contract.pcioperator.test/v1", rest.Last(e => e.Object is not null).Object!.ApiVersion);
    }

    [Fact]
    public async Task A_watch_from_nowhere_begins_with_what_is_there()
    {
        await CreateAsync("a", size: 1);
        await CreateAsync("b", size: 2);
        List<WatchEvent<Widget>> events = await WatchAsync(new ListOptions(), e => Story(e).Count() == 2);
        Assert.Equal(["Added a 1", "Added b 2"], Story(events).Order());
    }

    [Fact]
    public async Task A_watch_ends_in_its_time_and_bookmarks_move_it_on()
    {
        EntityList<Widget> list = await Client.ListAsync<Widget>(Ns, ct: Ct);
        Task<Widget>? elsewhere = null;
        try
        {
            List<WatchEvent<Widget>> events = await WatchAsync(
                new ListOptions { ResourceVersion = list.Metadata.ResourceVersion, TimeoutSeconds = 5 },
                events =>
                {
                    // Once it runs, something elsewhere moves the collection's version on, but is no event here.
                    if (elsewhere is null && Story(events).Any())
                        elsewhere = Client.CreateAsync(Widget.Named($"elsewhere-{Ns}", "default"), Ct);
                    return false;
                },
                () => CreateAsync("a", size: 1)
            );
            Assert.Equal(["Added a 1"], Story(events));
            WatchEvent<Widget> bookmark = events[^1];
            Assert.Equal(WatchEventType.Bookmark, bookmark.Type);
            Assert.Null(bookmark.Object);
            Assert.True(ulong.Parse(bookmark.ResourceVersion) >= ulong.Parse((await elsewhere!).Metadata.ResourceVersion!));

            List<WatchEvent<Widget>> none = await WatchAsync(
                new ListOptions
                {
                    ResourceVersion = bookmark.ResourceVersion,
                    TimeoutSeconds = 2,
                    AllowBookmarks = false,
                },
                _ => false
            );
            Assert.Empty(none);
        }
        finally
        {
            await Client.DeleteAsync<Widget>($"elsewhere-{Ns}", "default");
        }
    }

    [Fact]
    public async Task A_watch_from_a_version_that_is_forgotten_is_gone()
    {
        await CreateAsync("a");
        ForgetHistory();
        ApiException gone = await Assert.ThrowsAsync<ApiException>(() => WatchAsync(new ListOptions { ResourceVersion = "1" }, _ => false));
        Assert.True(gone.IsGone);
        Assert.Equal(410, (int)gone.StatusCode);
        Assert.Equal("Expired", gone.Status.Reason);
    }

    [Fact]
    public async Task To_a_watch_with_a_selector_objects_come_and_go_with_it()
    {
        EntityList<Widget> list = await Client.ListAsync<Widget>(Ns, ct: Ct);
        List<WatchEvent<Widget>> events = await WatchAsync(
            new ListOptions { ResourceVersion = list.Metadata.ResourceVersion, LabelSelector = "on=yes" },
            e => Story(e).Count() == 4,
            async () =>
            {
                Widget a = await CreateAsync("a", size: 1, labels: ("on", "no"));
                a = await Client.UpdateAsync(
                    a with
                    {
                        Metadata = a.Metadata with { Labels = new Dictionary<string, string> { ["on"] = "yes" } },
                    },
                    Ct
                );
                a = await Client.UpdateAsync(a with { Spec = a.Spec with { Size = 2 } }, Ct);
                a = await Client.UpdateAsync(a with { Metadata = a.Metadata with { Labels = null } }, Ct);
                await CreateAsync("b", size: 9, labels: ("on", "yes"));
            }
        );
        Assert.Equal(["Added a 1", "Modified a 2", "Deleted a 2", "Added b 9"], Story(events));
    }

    [Fact]
    public async Task To_a_watch_by_a_selectable_field_objects_come_and_go_with_it()
    {
        EntityList<Widget> list = await Client.ListAsync<Widget>(Ns, ct: Ct);
        List<WatchEvent<Widget>> events = await WatchAsync(
            new ListOptions { ResourceVersion = list.Metadata.ResourceVersion, FieldSelector = "spec.color=red" },
            e => Story(e).Count() == 2,
            async () =>
            {
                await CreateAsync("g", size: 1, color: "green");
                await CreateAsync("r", size: 2, color: "red");
                await Client.PatchAsync<Widget>("r", Ns, EntityPatch.Merge("""{"spec":{"color":"blue"}}"""), ct: Ct);
            }
        );
        Assert.Equal(["Added r 2", "Deleted r 2"], Story(events));
    }

    [Fact]
    public async Task A_cache_follows_and_survives_broken_watches()
    {
        await CreateAsync("a", size: 1, color: "red");
        var breaker = new BreakingWatches();
        using EntityClient client = Server.Client(
            WidgetJsonContext.Default,
            wrap: inner =>
            {
                breaker.InnerHandler = inner;
                return breaker;
            }
        );
        await using var cache = new WatchCache<Widget>(client, Ns);
        cache.AddIndex("color", w => w.Spec.Color is { } color ? [color] : []);
        using var changes = new ChangeLog<Widget>(cache, w => $"{w.Metadata.Name} {w.Spec.Size}");
        _ = cache.RunAsync(Ct);
        await cache.WaitForSyncAsync(Ct);
        Assert.Equal("Added a 1", await changes.NextAsync(Ct));
        Assert.Equal("a", cache.ByIndex("color", "red").Single().Metadata.Name);

        Widget b = await CreateAsync("b", size: 2, color: "red");
        cache.Observe(b);
        Assert.Equal(2, cache.Get("b", Ns)!.Spec.Size);
        Assert.Equal(2, cache.ByIndex("color", "red").Count);
        Assert.Equal("Added b 2", await changes.NextAsync(Ct));

        // Broken off, it goes on from where it was: one list in all.
        await breaker.BreakAsync();
        await Client.DeleteAsync<Widget>("a", Ns, ct: Ct);
        await Client.PatchAsync<Widget>("b", Ns, EntityPatch.Merge("""{"spec":{"size":3,"color":"blue"}}"""), ct: Ct);
        Assert.Equal("Deleted a 1", await changes.NextAsync(Ct));
        Assert.Equal("Updated b 3", await changes.NextAsync(Ct));
        Assert.Empty(cache.ByIndex("color", "red"));
        Assert.Equal(1, breaker.Lists);

        // Told that its place is forgotten, it lists again and works out what it missed.
        var missed = new TaskCompletionSource();
        breaker.ForgetAfter = missed.Task;
        await breaker.BreakAsync();
        await Client.DeleteAsync<Widget>("b", Ns, ct: Ct);
        Widget again = await CreateAsync("b", size: 4);
        missed.SetResult();
        Assert.Equal("Deleted b 3", await changes.NextAsync(Ct));
        Assert.Equal("Added b 4", await changes.NextAsync(Ct));
        Assert.Equal(again.Metadata.Uid, cache.Get("b", Ns)!.Metadata.Uid);
        Assert.Equal(2, breaker.Lists);
    }
}
