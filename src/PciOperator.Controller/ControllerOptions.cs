using PciOperator.Api;

namespace PciOperator.Controller;

/// <summary>How the controller runs.</summary>
public sealed record ControllerOptions
{
    /// <summary>The namespace that it runs in, and its lease is in.</summary>
    public string Namespace { get; init; } = Installation.ControllerNamespace;

    /// <summary>The namespace that the agents run in.</summary>
    public string AgentNamespace { get; init; } = Installation.AgentsNamespace;

    /// <summary>Labels of the agents' pods.</summary>
    public string AgentSelector { get; init; } = Installation.AgentSelector;

    /// <summary>Who it is in the leader election, and in events.</summary>
    public string Identity { get; init; } = $"{Environment.MachineName}_{Guid.NewGuid():N}";

    /// <summary>
    /// Whether only the holder of the Lease works. Without it several controllers work at once, which is safe and wasteful.
    /// </summary>
    public bool LeaderElect { get; init; } = true;

    /// <summary>The Lease's name.</summary>
    public string LeaseName { get; init; } = Installation.Lease;

    /// <summary>Which installation it is of.</summary>
    public Installation Installation => new($"{Namespace}/{LeaseName}", AgentNamespace);

    /// <summary>How long a device that an agent refused to give to a claim is kept out for that claim.</summary>
    public TimeSpan RefusalPeriod { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>The same where nothing is said against the device: the host could not be read just then.</summary>
    public TimeSpan UnreadablePeriod { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// How long devices are kept out for a claim after an agent's refusal with this reason (HoldingReasons of the host library).
    /// </summary>
    public TimeSpan RefusalPeriodFor(string? reason) => reason == "HostUnreadable" ? UnreadablePeriod : RefusalPeriod;

    /// <summary>How soon a claim that waits is looked at although nothing made room.</summary>
    public TimeSpan PendingRetry { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>How long a claim that waits keeps what it says when only counts in it would change.</summary>
    public TimeSpan CountsPeriod { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How soon claims that wait are looked at after something made room: what comes together is one look.</summary>
    public TimeSpan KickDelay { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>How soon a claim that another worker is placing is looked at again.</summary>
    public TimeSpan BusyDelay { get; init; } = TimeSpan.FromMilliseconds(50);

    /// <summary>How long changes are collected before the counts in the status of specs and aliases are written.</summary>
    public TimeSpan CountDelay { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>
    /// How claims that don't say so are delivered; null: by DRA where the cluster serves resource.k8s.io/v1, else by the device plugin.
    /// </summary>
    public Delivery? DefaultDelivery { get; init; }

    /// <summary>Whether claims may be delivered by DRA.</summary>
    public bool Dra { get; init; } = true;

    /// <summary>Whether claims may be delivered by the device plugin.</summary>
    public bool DevicePlugin { get; init; } = true;

    /// <summary>How long the agent of a node that kube-scheduler took has to bind a claim's devices, before another node is taken.</summary>
    public TimeSpan BindingTimeout { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>
    /// How long a claim that waits for a pod does not say what its next step is about to replace: that it is offered, and that its devices are
    /// being bound.
    /// </summary>
    public TimeSpan StepDelay { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>
    /// Claims that are worked on at a time. A worker waits nearly always for the server, and what all of them decide for one node while a
    /// write of that node is under way is its next write: with few workers a burst of claims writes each PciNode, the largest object there
    /// is, once for every few claims.
    /// </summary>
    public int ClaimWorkers { get; init; } = 64;
}
