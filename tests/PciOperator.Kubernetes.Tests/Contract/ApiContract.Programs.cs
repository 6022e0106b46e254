using k8s.Models;

namespace PciOperator.Kubernetes.Tests.Contract;

public abstract partial class ApiContract
{
    [Fact]
    public async Task Events_are_seen_where_kubectl_looks_and_repeats_are_one_series()
    {
        Widget widget = await CreateAsync("ev");
        await using (var recorder = new EventRecorder(Client, "pcioperator.io/contract", "contract-0"))
        {
            for (int i = 0; i < 5; i++)
                recorder.Warning(widget, "NoDevices", "0/3 nodes can serve it.", "Schedule");
            recorder.Normal(widget, "Bound", "Both devices are bound.");
        }

        var events = (await Client.ListAsync<Eventsv1Event>(Ns, ct: Ct)).Items.ToDictionary(e => e.Reason!);
        Assert.Equal(["Bound", "NoDevices"], events.Keys.Order());
        Eventsv1Event repeated = events["NoDevices"];
        Assert.Equal(("Widget", "ev", widget.Metadata.Uid), (repeated.Regarding!.Kind, repeated.Regarding.Name, repeated.Regarding.Uid));
        Assert.Equal(("Warning", "Schedule", 5), (repeated.Type, repeated.Action, repeated.Series!.Count));
        Assert.Equal("0/3 nodes can serve it.", repeated.Note);
        Assert.Null(events["Bound"].Series);
        if (KeepsEventGroupsApart)
            return;

        // kubectl describe looks for core/v1 events by involvedObject.
        using System.Text.Json.JsonDocument list = await Client.GetRawAsync(
            $"/api/v1/namespaces/{Ns}/events?fieldSelector="
                + Uri.EscapeDataString($"involvedObject.name=ev,involvedObject.uid={widget.Metadata.Uid},involvedObject.kind=Widget"),
            Ct
        );
        var described = list.RootElement.GetProperty("items").EnumerateArray().ToDictionary(e => e.GetProperty("reason").GetString()!);
        Assert.Equal(["Bound", "NoDevices"], described.Keys.Order());
        System.Text.Json.JsonElement noDevices = described["NoDevices"];
        Assert.Equal("0/3 nodes can serve it.", noDevices.GetProperty("message").GetString());
        Assert.Equal("Warning", noDevices.GetProperty("type").GetString());
        Assert.Equal(5, noDevices.GetProperty("series").GetProperty("count").GetInt32());
        Assert.Equal("pcioperator.io/contract", noDevices.GetProperty("reportingComponent").GetString());
    }

    [Fact]
    public async Task Events_of_cluster_scoped_objects_go_to_the_default_namespace()
    {
        var node = new V1Node
        {
            Metadata = new V1ObjectMeta { Name = $"n-{Ns}", Uid = Guid.NewGuid().ToString() },
        };
        await using (var recorder = new EventRecorder(Client, "pcioperator.io/contract", "contract-0"))
            recorder.Normal(node, "Inventory", "Two devices.");
        EntityList<k8s.Models.Eventsv1Event> events = await Client.ListAsync<Eventsv1Event>("default", ct: Ct);
        Assert.Equal("Two devices.", events.Items.Single(e => e.Regarding?.Name == node.Metadata.Name).Note);
    }

    [Fact]
    public async Task One_of_two_candidates_leads_and_the_other_follows_when_it_stops()
    {
        var leaders = new List<string>();
        var leading = System.Threading.Channels.Channel.CreateUnbounded<string>();
        LeaderElector Candidate(string name) =>
            new(
                Client,
                new LeaseLock
                {
                    Namespace = Ns,
                    Name = "leader",
                    Identity = name,
                    LeaseDuration = TimeSpan.FromSeconds(3),
                    RenewDeadline = TimeSpan.FromSeconds(2),
                    RetryPeriod = TimeSpan.FromMilliseconds(100),
                }
            );
        async Task LeadAsync(string name, CancellationToken ct)
        {
            lock (leaders)
            {
                leaders.Add(name);
                Assert.Single(leaders);
            }

            leading.Writer.TryWrite(name);
            try
            {
                await Task.Delay(Timeout.Infinite, ct);
            }
            finally
            {
                lock (leaders)
                    leaders.Remove(name);
            }
        }

        using var stopA = CancellationTokenSource.CreateLinkedTokenSource(Ct);
        using var stopB = CancellationTokenSource.CreateLinkedTokenSource(Ct);
        var stops = new Dictionary<string, CancellationTokenSource> { ["a"] = stopA, ["b"] = stopB };
        var runs = stops.ToDictionary(s => s.Key, s => Candidate(s.Key).RunAsync(ct => LeadAsync(s.Key, ct), s.Value.Token));

        string first = await leading.Reader.ReadAsync(Ct);
        V1Lease? lease = await Client.GetAsync<V1Lease>("leader", Ns, Ct);
        Assert.Equal(first, lease!.Spec!.HolderIdentity);
        Assert.NotNull(lease.Spec.RenewTime);
        await stops[first].CancelAsync();
        await runs[first];
        string second = await leading.Reader.ReadAsync(Ct);
        Assert.NotEqual(first, second);
        lease = await Client.GetAsync<V1Lease>("leader", Ns, Ct);
        Assert.Equal(second, lease!.Spec!.HolderIdentity);

        // Somebody takes the lease by force: the leader notices and stops.
        await Client.PatchAsync<V1Lease>("leader", Ns, EntityPatch.Merge("""{"spec":{"holderIdentity":"thief"}}"""), ct: Ct);
        LeadershipLostException lost = await Assert.ThrowsAsync<LeadershipLostException>(() => runs[second]);
        Assert.False(lost.StillRunning);
        Assert.Empty(leaders);
    }

    [Fact]
    public async Task A_controller_brings_every_object_to_its_status_under_conflicts()
    {
        await using var cache = new WatchCache<Widget>(Client, Ns);
        using var loop = new ControllerLoop<Widget>("widgets", cache, new PhaseController(Client, cache), workers: 4);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Ct);
        var running = Task.WhenAll(cache.RunAsync(stop.Token), loop.RunAsync(stop.Token));
        for (int i = 0; i < 20; i++)
        {
            await CreateAsync($"w{i:00}", size: i);
            // Somebody else writes too, so that some of the controller's writes conflict.
            await PatchAsync($"w{i:00}", EntityPatch.Merge("""{"metadata":{"labels":{"touched":"yes"}}}"""));
        }

        using var changes = new ChangeLog<Widget>(cache, w => $"{w.Metadata.Name} {w.Status?.Phase}");
        await changes.UntilAsync(() => cache.List().Count == 20 && cache.List().All(w => w.Status?.Phase == $"size {w.Spec.Size}"), Ct);
        await stop.CancelAsync();
        await running;
    }

    private sealed class PhaseController(IEntityClient client, WatchCache<Widget> cache) : IEntityController<Widget>
    {
        public async Task<ReconciliationResult> ReconcileAsync(Widget entity, CancellationToken ct)
        {
            string phase = $"size {entity.Spec.Size}";
            if (entity.Status?.Phase != phase)
                cache.Observe(await client.UpdateStatusAsync(entity with { Status = new WidgetStatus { Phase = phase } }, ct));
            return ReconciliationResult.Done;
        }

        public Task DeletedAsync(Widget entity, CancellationToken ct) => Task.CompletedTask;
    }
}
