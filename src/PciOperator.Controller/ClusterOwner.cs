using System.Threading.Channels;
using k8s.Models;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Kubernetes;
using Prometheus;

namespace PciOperator.Controller;

/// <summary>
/// Keeps two installations in one cluster apart: one works, the other says so and stays still until the cluster is handed over. Nothing is
/// ever taken over by itself: that an owner is silent doesn't say that its agents hold nothing, and their journals may be in folders that
/// ours know nothing of.
/// </summary>
internal sealed class ClusterOwner
{
    private static readonly TimeSpan Remind = TimeSpan.FromMinutes(10);
    private readonly WatchCache<PciNode> _nodes;
    private readonly ControllerOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger _log;
    private readonly EventRecorder _events;
    private readonly Gauge _still;

    // One slot: what changes twice before it is looked at is looked at once.
    private readonly Channel<bool> _changed = Channel.CreateBounded<bool>(
        new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite }
    );
    private volatile string? _whyStill;

    public ClusterOwner(
        WatchCache<PciNode> nodes,
        ControllerOptions options,
        TimeProvider time,
        ILogger log,
        CollectorRegistry metrics,
        EventRecorder events
    )
    {
        (_nodes, _options, _time, _log, _events) = (nodes, options, time, log, events);
        _still = Metrics
            .WithCustomRegistry(metrics)
            .CreateGauge(
                "pcioperator_controller_other_installation",
                "1 while the controller stays still because the cluster belongs to another installation."
            );
        _still.Set(0);
        nodes.OnChange(change =>
        {
            if (change.Old is null || change.New is null || Installation.OwnerOf(change.Old) != Installation.OwnerOf(change.New))
                _changed.Writer.TryWrite(true);
        });
    }

    /// <summary>Why this controller stays still, or null: for <c>/readyz</c>.</summary>
    public string? WhyStill => _whyStill;

    /// <summary>Whether the cluster is this installation's, or nobody's yet.</summary>
    public bool IsOurs => Other() is null;

    /// <summary>Waits until the cluster is no other installation's.</summary>
    public async Task WaitAsync(CancellationToken ct)
    {
        while (Other() is { } other)
        {
            string why =
                $"the PciNodes belong to installation {other}, and this controller is of {_options.Installation.Controller}: it stays still. To hand the cluster over, end the other one's "
                + $"programs, then: kubectl annotate pcinodes --all --overwrite {Installation.Annotation}={_options.Installation.Controller} {Installation.AgentsAnnotation}={_options.AgentNamespace}";
            if (_whyStill != why)
                _log.LogError("{Why}", why);
            _whyStill = why;
            _still.Set(1);
            _events.Warning(
                new V1Lease
                {
                    Metadata = new V1ObjectMeta { Name = _options.LeaseName, NamespaceProperty = _options.Namespace },
                },
                "OtherInstallation",
                why,
                "StayStill"
            );
            await ChangeAsync(Remind, ct);
        }

        _still.Set(0);
        _whyStill = null;
    }

    /// <summary>Ends when another installation has been given the cluster.</summary>
    /// <exception cref="HandedOverException">It has: the process has to end, and stays still when it is started again.</exception>
    public async Task WatchAsync(CancellationToken ct)
    {
        while (true)
        {
            if (Other() is { } other)
            {
                throw new HandedOverException(
                    $"the cluster was handed over to installation {other}: this controller, of {_options.Installation.Controller}, ends"
                );
            }

            await ChangeAsync(Remind, ct);
        }
    }

    private string? Other() => Installation.OwnerOf(_nodes.List()) is { } owner && owner != _options.Installation.Controller ? owner : null;

    private async Task ChangeAsync(TimeSpan atMost, CancellationToken ct)
    {
        using var limit = new CancellationTokenSource(atMost, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(ct, limit.Token);
        try
        {
            await _changed.Reader.ReadAsync(either.Token);
        }
        catch (OperationCanceledException) when (!ct.IsCancellationRequested)
        {
            // Time to say it again.
        }
    }
}

/// <summary>Another installation was given the cluster.</summary>
public sealed class HandedOverException(string message) : Exception(message);
