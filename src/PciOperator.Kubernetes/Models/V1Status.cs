namespace PciOperator.Kubernetes.Models;

/// <summary>What the server answers when a call fails, and to some deletions.</summary>
public sealed record V1Status : IKubernetesObject
{
    /// <inheritdoc/>
    public string? ApiVersion { get; set; } = "v1";

    /// <inheritdoc/>
    public string? Kind { get; set; } = "Status";

    /// <summary><c>Success</c> or <c>Failure</c>.</summary>
    public string? Status { get; set; }

    /// <summary>A sentence for people.</summary>
    public string? Message { get; set; }

    /// <summary>One word for programs, e.g. <c>NotFound</c>, <c>Conflict</c>, <c>Expired</c>.</summary>
    public string? Reason { get; set; }

    /// <summary>HTTP status code.</summary>
    public int? Code { get; set; }

    /// <summary>Which object, and what about it.</summary>
    public V1StatusDetails? Details { get; set; }
}

/// <summary>Details of a <see cref="V1Status"/>.</summary>
public sealed record V1StatusDetails
{
    /// <summary>Name of the object.</summary>
    public string? Name { get; set; }

    /// <summary>API group of the object.</summary>
    public string? Group { get; set; }

    /// <summary>Resource (the plural) of the object.</summary>
    public string? Kind { get; set; }

    /// <summary>UID of the object.</summary>
    public string? Uid { get; set; }

    /// <summary>What is wrong, field by field.</summary>
    public IReadOnlyList<V1StatusCause>? Causes { get; set; }

    /// <summary>Seconds to wait before trying again.</summary>
    public int? RetryAfterSeconds { get; set; }
}

/// <summary>One thing that is wrong.</summary>
public sealed record V1StatusCause
{
    /// <summary>One word, e.g. <c>FieldValueInvalid</c> or <c>FieldManagerConflict</c>.</summary>
    public string? Reason { get; set; }

    /// <summary>A sentence.</summary>
    public string? Message { get; set; }

    /// <summary>Path of the field.</summary>
    public string? Field { get; set; }
}
