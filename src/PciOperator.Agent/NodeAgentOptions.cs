using PciOperator.Api;
using PciOperator.Kubelet;

namespace PciOperator.Agent;

/// <summary>How a node's agent runs.</summary>
public sealed record NodeAgentOptions
{
    /// <summary>The Node's name, and the PciNode's.</summary>
    public required string NodeName { get; init; }

    /// <summary>Which installation it is of: it leaves a PciNode alone that is another's. Null: whoever has marked it is obeyed.</summary>
    public Installation? Installation { get; init; }

    /// <summary>Where the kubelet is that devices are handed to; null: they are bound, and handed to nobody.</summary>
    public KubeletOptions? Kubelet { get; init; }

    /// <summary>How often everything is looked at again although nothing was said to have changed.</summary>
    public TimeSpan Resync { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>How long uevents are collected before the bus is looked at.</summary>
    public TimeSpan Debounce { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>
    /// How soon something that waits (a device still open, an API server that is away) is tried again; what goes on failing is tried less
    /// and less often, up to thirty times as long.
    /// </summary>
    public TimeSpan Retry { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>How long the PciNode need not say what the agent is about to do, and that devices were handed out, for the next write to carry it.</summary>
    public TimeSpan StatusPatience { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>What <c>PciNode.status.agentVersion</c> says.</summary>
    public string Version { get; init; } = typeof(NodeAgent).Assembly.GetName().Version?.ToString(3) ?? "0.0.0";
}
