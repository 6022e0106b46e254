namespace PciOperator.Controller;

/// <summary>Whether pods and VMs can get a claim's devices now, and who has them.</summary>
/// <param name="Ready">Whether they can.</param>
/// <param name="Reason">One word.</param>
/// <param name="Message">A sentence.</param>
/// <param name="InUse">Condition InUse; null: nobody can say.</param>
internal sealed record DeliveryState(bool Ready, string Reason, string Message, DeliveryUse? InUse = null)
{
    /// <summary>Nothing is handed on: whoever runs on the node opens the devices there.</summary>
    public static DeliveryState OnTheNode { get; } = new(true, "Ready", "");
}

/// <summary>Who uses a claim's devices.</summary>
/// <param name="Pods">The pods that have it, by name.</param>
/// <param name="Waiting">What is said of a pod that wants it and has no node; null: there is none.</param>
internal sealed record DeliveryUse(IReadOnlyList<string> Pods, string? Waiting = null)
{
    private const int MostNamed = 4;

    /// <summary>The pods in words.</summary>
    public string Named =>
        (Pods.Count == 1 ? "pod " : "pods ")
        + string.Join(", ", Pods.Take(MostNamed))
        + (Pods.Count > MostNamed ? $" and {Pods.Count - MostNamed} more" : "");
}
