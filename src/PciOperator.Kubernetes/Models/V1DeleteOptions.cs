namespace PciOperator.Kubernetes.Models;

/// <summary>How an object is to be deleted.</summary>
public sealed record V1DeleteOptions
{
    /// <summary>Group and version of the options.</summary>
    public string ApiVersion { get; set; } = "v1";

    /// <summary>Always <c>DeleteOptions</c>.</summary>
    public string Kind { get; set; } = "DeleteOptions";

    /// <summary>Only if the object is still this one; else the call fails with a conflict.</summary>
    public V1Preconditions? Preconditions { get; set; }

    /// <summary><c>Background</c>, <c>Foreground</c> or <c>Orphan</c>.</summary>
    public string? PropagationPolicy { get; set; }

    /// <summary>Seconds of grace; 0 deletes at once.</summary>
    public long? GracePeriodSeconds { get; set; }

    /// <summary><c>["All"]</c>: check everything, delete nothing.</summary>
    public IReadOnlyList<string>? DryRun { get; set; }
}

/// <summary>What must still hold for a deletion.</summary>
public sealed record V1Preconditions
{
    /// <summary>The UID that the object must have.</summary>
    public string? Uid { get; set; }

    /// <summary>The version that the object must have.</summary>
    public string? ResourceVersion { get; set; }
}
