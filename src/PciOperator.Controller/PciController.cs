using k8s.Models;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Kubernetes;
using PciOperator.Kubernetes.Schema;
using Prometheus;

namespace PciOperator.Controller;

/// <summary>The controller: one loop per kind over shared caches, leader-elected.</summary>
[EntityRbac("", "pods", "list,watch")]
[EntityRbac("coordination.k8s.io", "leases", "get,create,update")]
public sealed class PciController
{
    private readonly IEntityClient _client;
    private readonly ControllerOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger _log;
    private readonly CollectorRegistry _metrics;
    private readonly EventRecorder _events;
    private volatile string? _notReady = "the caches are not filled yet";
    private volatile Func<string?>? _whyOld;
    private volatile Func<string?>? _whyStuck;
    private volatile LeaderElector? _elector;
    private volatile ClusterOwner? _owner;

    /// <summary>A controller over a cluster.</summary>
    public PciController(
        IEntityClient client,
        ControllerOptions options,
        TimeProvider time,
        ILogger log,
        CollectorRegistry metrics,
        EventRecorder events
    ) => (_client, _options, _time, _log, _metrics, _events) = (client, options, time, log, metrics, events);

    /// <summary>Why the controller is not ready, or null: for <c>/readyz</c>. One that waits to lead is ready.</summary>
    public string? NotReady() => _notReady ?? _elector?.WhyNotWell() ?? _whyOld?.Invoke() ?? _owner?.WhyStill;

    /// <summary>Why only a restart helps, or null: for <c>/healthz</c>. A server that is away is no reason.</summary>
    public string? WhyStuck() => _whyStuck?.Invoke();

    /// <summary>
    /// Runs until cancelled, or until leadership is lost or the cluster handed over to another installation: then the process has to end.
    /// </summary>
    public async Task RunAsync(CancellationToken ct)
    {
        if (!_options.LeaderElect)
        {
            await LeadAsync(ct);
            return;
        }

        _notReady = null;
        var elector = new LeaderElector(
            _client,
            new LeaseLock
            {
                Namespace = _options.Namespace,
                Name = _options.LeaseName,
                Identity = _options.Identity,
            },
            _time,
            _log,
            _metrics
        );
        _elector = elector;
        await elector.RunAsync(LeadAsync, ct);
    }

    private async Task LeadAsync(CancellationToken ct)
    {
        bool draIsServed = _options.Dra && await ServesDraAsync(ct);
        var caches = new ControllerCaches(_client, _options, draIsServed, _time, _log, _metrics);
        var dra = new DraDelivery(_client, caches, _time, _log);
        var deliveries = new Deliveries(_options, draIsServed);
        var owner = new ClusterOwner(caches.PciNodes, _options, _time, _log, _metrics, _events);
        _owner = owner;
        var view = new ClusterView();
        var leftOut = new LeftOutSpecs();
        var writer = new PciNodeWriter(_client, caches.PciNodes, _time, _metrics);
        ControllerLoop<PassthroughClaim>? claimLoop = null;
        var line = new WaitingLine(key => claimLoop?.Enqueue(key));
        var priorities = new ClaimPriorities(caches);
        var ledger = new QuotaLedger(_client, caches, _options, _time, _metrics);

        var claims = new ControllerLoop<PassthroughClaim>(
            "claims",
            caches.Claims,
            new ClaimController(
                _client,
                caches,
                view,
                writer,
                dra,
                deliveries,
                new CandidateNodes(view, caches, dra),
                new AliasAccess(caches.Aliases, caches.Namespaces),
                ledger,
                line,
                priorities,
                _events,
                _metrics,
                _time,
                _log,
                _options
            ),
            workers: _options.ClaimWorkers,
            logger: _log,
            metrics: _metrics,
            time: _time
        );
        claimLoop = claims;
        // All have their places before the first of them is looked at.
        void Wake(IReadOnlyList<PassthroughClaim> woken)
        {
            foreach (PassthroughClaim claim in woken)
                line.Wake(claim, priorities.Of(claim) ?? 0);
            foreach (PassthroughClaim claim in woken)
                claims.Enqueue(EntityKey.Of(claim));
        }

        var nodes = new ControllerLoop<V1Node>(
            "nodes",
            caches.Nodes,
            new NodeController(_client, caches, view, writer, leftOut, owner, _options.Installation, _log),
            workers: 4,
            logger: _log,
            metrics: _metrics,
            time: _time
        );
        var pciNodes = new ControllerLoop<PciNode>(
            "pcinodes",
            caches.PciNodes,
            new PciNodeController(_client, caches, view, writer, deliveries, _events, _time, _log),
            workers: 4,
            logger: _log,
            metrics: _metrics,
            time: _time
        );
        var specs = new ControllerLoop<PciDeviceSpec>(
            "specs",
            caches.Specs,
            new PciDeviceSpecController(_client, caches, view, leftOut, _time),
            logger: _log,
            metrics: _metrics,
            time: _time
        );
        var aliases = new ControllerLoop<PciAlias>(
            "aliases",
            caches.Aliases,
            new PciAliasController(_client, caches, view, _time),
            logger: _log,
            metrics: _metrics,
            time: _time
        );

        var quotas = new ControllerLoop<PciQuota>(
            "quotas",
            caches.Quotas,
            new PciQuotaController(ledger),
            logger: _log,
            metrics: _metrics,
            time: _time
        );

        List<Part> loops =
        [
            Part.Of(claims),
            Part.Of(nodes),
            Part.Of(pciNodes),
            Part.Of(specs),
            Part.Of(aliases),
            Part.Of(quotas),
            .. DeliveryParts(caches, claims),
        ];

        var wakes = new Wakes(_time);
        var pending = new Debounce(
            _options.KickDelay,
            _time,
            () =>
            {
                var atOnce = new List<PassthroughClaim>();
                Func<PassthroughClaim, bool> concerns = view.TakeChanges();
                foreach (PassthroughClaim? claim in caches.Claims.ByIndex(ControllerCaches.ByPending, "true").Where(concerns))
                {
                    // A decision that comes to nothing makes its devices free again, which must not wake the claim whose decision it was,
                    // ever again.
                    var key = EntityKey.Of(claim);
                    if (claims.BacksOff(key))
                        continue;
                    TimeSpan delay = wakes.DelayOf(claim.Metadata.Uid!);
                    if (delay > TimeSpan.Zero)
                        claims.EnqueueAfter(key, delay);
                    else
                        atOnce.Add(claim);
                }

                Wake(atOnce);
            }
        );
        var counts = new Debounce(
            _options.CountDelay,
            _time,
            () =>
            {
                foreach (PciDeviceSpec spec in caches.Specs.List())
                    specs.Enqueue(EntityKey.Of(spec));
                foreach (PciAlias alias in caches.Aliases.List())
                    aliases.Enqueue(EntityKey.Of(alias));
            }
        );
        var use = new Debounce(
            _options.CountDelay,
            _time,
            () =>
            {
                foreach (PciQuota quota in caches.Quotas.List())
                    quotas.Enqueue(EntityKey.Of(quota));
            }
        );
        var quotaWakes = new QuotaWakes(caches, ledger, priorities, Wake);
        var room = new Debounce(_options.KickDelay, _time, quotaWakes.Run);
        quotaWakes.Asked += room.Trigger;
        ConnectQuotas(caches, ledger, quotaWakes, use);
        var rules = new Debounce(
            _options.KickDelay,
            _time,
            () =>
            {
                foreach (V1Node node in caches.Nodes.List())
                    nodes.Enqueue(EntityKey.Of(node));
            }
        );
        var tied = new Debounce(
            _options.KickDelay,
            _time,
            () =>
            {
                foreach (
                    PassthroughClaim? claim in caches
                        .Claims.ByIndex(ControllerCaches.ByPending, "true")
                        .Where(c => c.Status.Reason(Conditions.Scheduled) == ClaimController.CoLocationTooLarge)
                )
                {
                    claims.Enqueue(EntityKey.Of(claim));
                }
            }
        );
        view.OffersChanged += pending.Trigger;
        leftOut.Changed += counts.Trigger;
        Connect(caches, view, _options.Installation, claims, nodes, pciNodes, counts, rules, tied);
        var permitted = new Debounce(_options.CountDelay, _time, PermitAsync(new PermittedHostDevices(_client, caches.Claims.List, _log)));
        ConnectDelivery(caches, claims, permitted);

        _whyStuck = () => caches.WhyStuck() ?? loops.Select(l => l.WhyStuck()).FirstOrDefault(w => w is not null);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(ct);
        List<Task> parts = [.. caches.Run(stop.Token)];
        try
        {
            await FirstAsync(caches.WaitForSyncAsync(stop.Token), parts);
            _notReady = null;
            _whyOld = caches.WhyOld;
            await FirstAsync(owner.WaitAsync(stop.Token), parts);
            _log.LogInformation(
                "the controller works: {Nodes} nodes, {Claims} claims",
                caches.Nodes.List().Count,
                caches.Claims.List().Count
            );
            using var shown = new ClusterMetrics(caches, view, dra, _time, _metrics);
            parts.AddRange([
                owner.WatchAsync(stop.Token),
                .. loops.Select(l => l.RunAsync(stop.Token)),
                pending.RunAsync(stop.Token),
                counts.RunAsync(stop.Token),
                use.RunAsync(stop.Token),
                room.RunAsync(stop.Token),
                rules.RunAsync(stop.Token),
                tied.RunAsync(stop.Token),
                permitted.RunAsync(stop.Token),
            ]);
            await await Task.WhenAny(parts);
        }
        finally
        {
            (_whyOld, _whyStuck) = (null, null);
            await stop.CancelAsync();
            await Task.WhenAll(
                parts.Select(p =>
                    p.ContinueWith(_ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default)
                )
            );
        }
    }

    /// <summary>Whether the cluster serves resource.k8s.io/v1; what comes with an upgrade of the cluster is seen by the next leader.</summary>
    private async Task<bool> ServesDraAsync(CancellationToken ct)
    {
        while (true)
        {
            try
            {
                using System.Text.Json.JsonDocument served = await _client.GetRawAsync("/apis/resource.k8s.io/v1", ct);
                return true;
            }
            catch (ApiException none) when (none.IsNotFound)
            {
                return false;
            }
            catch (Exception error) when (error is ApiException or HttpRequestException)
            {
                _log.LogWarning("whether the cluster serves resource.k8s.io/v1 can't be asked yet: {Message}", error.Cause());
                await Task.Delay(TimeSpan.FromSeconds(1), _time, ct);
            }
        }
    }

    /// <summary>Keeps KubeVirt's list in step; what fails is tried again at the next change, and is no reason to stop.</summary>
    private Func<CancellationToken, Task> PermitAsync(PermittedHostDevices permitted) =>
        async ct =>
        {
            try
            {
                await permitted.SyncAsync(ct);
            }
            catch (Exception error) when (error is ApiException or HttpRequestException)
            {
                _log.LogWarning("KubeVirt's permittedHostDevices are not in step: {Message}", error.Cause());
            }
        };

    /// <summary>A loop of the controller, whatever it is of.</summary>
    private sealed record Part(Func<CancellationToken, Task> RunAsync, Func<string?> WhyStuck)
    {
        public static Part Of<T>(ControllerLoop<T> loop)
            where T : class, k8s.IKubernetesObject<V1ObjectMeta> => new(loop.RunAsync, loop.WhyStuck);
    }

    /// <summary>The loops that are there only where the cluster serves resource.k8s.io/v1.</summary>
    private IReadOnlyList<Part> DeliveryParts(ControllerCaches caches, ControllerLoop<PassthroughClaim> claims)
    {
        if (caches is not { ResourceSlices: { } offered, ResourceClaims: { } resources })
            return [];
        var slices = new ControllerLoop<V1ResourceSlice>(
            "slices",
            offered,
            new SliceController(_client, caches, claims.Enqueue, _log),
            logger: _log,
            metrics: _metrics,
            time: _time
        );
        var templates = new ControllerLoop<Resourcev1ResourceClaim>(
            "templateclaims",
            resources,
            new TemplateClaimController(_client, caches, _events, _log),
            logger: _log,
            metrics: _metrics,
            time: _time
        );
        // Whoever has lost a claim, or got another, is looked at.
        caches.Claims.OnChange(change =>
        {
            string? before = change.Old is null ? null : TemplateClaim.OwnerOf(change.Old)?.Uid;
            string? after = change.New is null ? null : TemplateClaim.OwnerOf(change.New)?.Uid;
            if (before == after)
                return;
            foreach (PassthroughClaim claim in new[] { change.Old, change.New }.OfType<PassthroughClaim>())
            {
                if (TemplateClaim.OwnerOf(claim) is { } owner)
                    templates.Enqueue(new EntityKey(claim.Metadata.NamespaceProperty, owner.Name));
            }
        });
        return [Part.Of(slices), Part.Of(templates)];
    }

    /// <summary>What changes of ResourceClaims, and of pods that wait for them, mean for claims.</summary>
    private static void ConnectDelivery(ControllerCaches caches, ControllerLoop<PassthroughClaim> claims, Debounce permitted)
    {
        // What went while nobody led is seen at the first look.
        permitted.Trigger();
        caches.Claims.OnChange(change =>
        {
            if (change.Old?.Status?.ResourceName != change.New?.Status?.ResourceName)
                permitted.Trigger();
        });

        caches.ResourceClaims?.OnChange(change =>
        {
            Resourcev1ResourceClaim resource = (change.New ?? change.Old)!;
            EnqueueFor(resource.Metadata.NamespaceProperty, resource.Metadata.Name, resource.Metadata.Uid);
        });
        caches.WaitingPods?.OnChange(change =>
        {
            foreach (string name in new[] { change.Old, change.New }.OfType<V1Pod>().SelectMany(ControllerCaches.Wanted).Distinct())
            {
                int slash = name.IndexOf('/', StringComparison.Ordinal);
                (string ns, string resource) = (name[..slash], name[(slash + 1)..]);
                EnqueueFor(ns, resource, caches.ResourceClaims!.Get(resource, ns)?.Metadata.Uid);
            }
        });

        // The claim whose own ResourceClaim it is, or the one that stands behind a template's.
        void EnqueueFor(string ns, string name, string? uid)
        {
            if (caches.Claims.Get(name, ns) is not null)
                claims.Enqueue(new EntityKey(ns, name));
            foreach (PassthroughClaim claim in uid is null ? [] : caches.Claims.ByIndex(ControllerCaches.ByTemplateClaim, uid))
                claims.Enqueue(EntityKey.Of(claim));
        }
    }

    /// <summary>What changes use of quotas, or makes room.</summary>
    private static void ConnectQuotas(ControllerCaches caches, QuotaLedger ledger, QuotaWakes wakes, Debounce use)
    {
        ledger.Freed += ns =>
        {
            use.Trigger();
            wakes.Add(ns);
        };
        caches.PciNodes.OnChange(change =>
        {
            IReadOnlyList<PciAssignment> now = change.New?.Spec.Assignments ?? [];
            var left = (change.Old?.Spec.Assignments ?? []).ExceptBy(now.Select(a => a.ClaimUid), a => a.ClaimUid).ToList();
            foreach (string ns in left.Select(a => a.ClaimNamespace).Distinct())
                wakes.Add(ns);
            if (left.Count > 0 || now.Count != (change.Old?.Spec.Assignments?.Count ?? 0))
                use.Trigger();
        });
        caches.Claims.OnChange(change =>
        {
            if (change.New is null || (change.Old?.Status?.NodeName is not null && change.New.Status?.NodeName is null))
                wakes.Add((change.New ?? change.Old)!.Metadata.NamespaceProperty);
            if (change.Old?.Status?.NodeName != change.New?.Status?.NodeName)
                use.Trigger();
            // Who was let in and stays out for another reason leaves the room to the next.
            if (change is { Old: { } old, New: { } now } && QuotaWakes.Waits(old) && !QuotaWakes.Waits(now))
                wakes.Add(now.Metadata.NamespaceProperty);
        });
        caches.Namespaces.OnChange(change =>
        {
            if (AliasAccess.Fingerprint(change.Old) != AliasAccess.Fingerprint(change.New))
                use.Trigger();
        });
        caches.Quotas.OnChange(change =>
        {
            if (change.New is null || change.Old?.Metadata.Generation != change.New.Metadata.Generation)
                wakes.AddAll();
            IEnumerable<QuotaReservation> gone = (change.Old?.Status?.Reservations ?? []).ExceptBy(
                (change.New?.Status?.Reservations ?? []).Select(r => r.ClaimUid),
                r => r.ClaimUid
            );
            foreach (string ns in gone.Select(r => r.Namespace).Distinct())
                wakes.Add(ns);
        });
    }

    /// <summary>Waits for something while parts of the controller run that shouldn't end.</summary>
    private static async Task FirstAsync(Task first, List<Task> parts)
    {
        if (await Task.WhenAny([first, .. parts]) != first)
            await await Task.WhenAny(parts);
        await first;
    }

    /// <summary>What each change means for the other kinds.</summary>
    private static void Connect(
        ControllerCaches caches,
        ClusterView view,
        Installation installation,
        ControllerLoop<PassthroughClaim> claims,
        ControllerLoop<V1Node> nodes,
        ControllerLoop<PciNode> pciNodes,
        Debounce counts,
        Debounce rules,
        Debounce tied
    )
    {
        void EnqueueClaim(string uid)
        {
            foreach (PassthroughClaim claim in caches.Claims.ByIndex(ControllerCaches.ByUid, uid))
                claims.Enqueue(EntityKey.Of(claim));
        }

        caches.Nodes.OnChange(change =>
        {
            string name = (change.New ?? change.Old)!.Metadata.Name!;
            view.SetNode(name, change.New);
            pciNodes.Enqueue(new EntityKey(null, name));
            bool gone = change.New is null || ClusterView.IsOutOfService(change.New);
            if (!gone && change.Old is not null && NodeStanding.Of(change.Old) == NodeStanding.Of(change.New!))
                return;
            foreach (PassthroughClaim claim in caches.Claims.ByIndex(ControllerCaches.ByNode, name))
                claims.Enqueue(EntityKey.Of(claim));
            foreach (PciAssignment assignment in caches.PciNodes.Get(name)?.Spec.Assignments ?? [])
                EnqueueClaim(assignment.ClaimUid);
        });

        caches.PciNodes.OnChange(change =>
        {
            string name = (change.New ?? change.Old)!.Metadata.Name!;
            view.SetPciNode(name, change.New);
            if (
                change.New is null
                || change.Kind == WatchCacheChangeKind.Added
                || !installation.HasMarked(change.New)
                || (caches.Nodes.Get(name) is { } owner && NodeStanding.IsOfAnother(change.New, owner))
            )
            {
                nodes.Enqueue(new EntityKey(null, name));
            }

            IEnumerable<string> concerned =
            [
                .. new[] { change.Old, change.New }
                    .OfType<PciNode>()
                    .SelectMany(n =>
                        (n.Spec.Assignments ?? []).Select(a => a.ClaimUid).Concat((n.Status?.Assignments ?? []).Select(a => a.ClaimUid))
                    ),
                // Those that wait for this agent's word although nothing of theirs is to be seen any more.
                .. caches.Claims.ByIndex(ControllerCaches.ByNode, name).Select(c => c.Metadata.Uid!),
            ];
            foreach (string uid in concerned.Distinct())
                EnqueueClaim(uid);
            counts.Trigger();
        });

        caches.Claims.OnChange(change =>
        {
            if (change.New is null)
            {
                foreach (PciNode node in caches.PciNodes.ByIndex(ControllerCaches.ByAssignedClaim, change.Old!.Metadata.Uid!))
                    pciNodes.Enqueue(EntityKey.Of(node));
            }

            // Whoever waits for this one to exist, or to have a node.
            PassthroughClaim claim = (change.New ?? change.Old)!;
            if (change.Kind != WatchCacheChangeKind.Updated || change.Old?.Status?.NodeName != change.New?.Status?.NodeName)
            {
                foreach (
                    PassthroughClaim other in caches.Claims.ByIndex(
                        ControllerCaches.ByCoLocatedName,
                        $"{claim.Metadata.NamespaceProperty}/{claim.Metadata.Name}"
                    )
                )
                {
                    claims.Enqueue(EntityKey.Of(other));
                }
            }

            // Fewer are tied together now.
            if (change.New is null)
                tied.Trigger();
        });

        caches.AgentPods.OnChange(change =>
        {
            foreach (string name in new[] { change.Old?.Spec?.NodeName, change.New?.Spec?.NodeName }.OfType<string>().Distinct())
            {
                view.SetAgentReady(name, caches.IsAgentReady(name));
                pciNodes.Enqueue(new EntityKey(null, name));
                // A release that waits says for whom.
                foreach (
                    PassthroughClaim? claim in caches
                        .Claims.ByIndex(ControllerCaches.ByNode, name)
                        .Where(c => c.Metadata.DeletionTimestamp is not null)
                )
                {
                    claims.Enqueue(EntityKey.Of(claim));
                }
            }
        });

        caches.PriorityClasses.OnChange(change =>
        {
            foreach (
                PassthroughClaim claim in caches
                    .Claims.ByIndex(ControllerCaches.ByPending, "true")
                    .Where(c => c.Status.Reason(Conditions.Scheduled) == ClaimPriorities.NotFound)
            )
            {
                claims.Enqueue(EntityKey.Of(claim));
            }
        });

        caches.Namespaces.OnChange(change =>
        {
            if (AliasAccess.Fingerprint(change.Old) == AliasAccess.Fingerprint(change.New))
                return;
            foreach (
                PassthroughClaim claim in caches.Claims.ByIndex(
                    ControllerCaches.ByPendingNamespace,
                    (change.New ?? change.Old)!.Metadata.Name!
                )
            )
            {
                claims.Enqueue(EntityKey.Of(claim));
            }
        });

        caches.Aliases.OnChange(change =>
        {
            view.SetAlias((change.New ?? change.Old)!.Metadata.Name!, change.New is null ? null : AliasUse.Usable(change.New));
        });

        caches.Specs.OnChange(change =>
        {
            if (
                change.Kind != WatchCacheChangeKind.Updated
                || change.Old!.Metadata.Generation != change.New!.Metadata.Generation
                || change.Old.Metadata.DeletionTimestamp != change.New.Metadata.DeletionTimestamp
            )
            {
                rules.Trigger();
            }
        });
    }
}
