namespace PciOperator.Sandbox.ApiServer.Http;

/// <summary>What to do about fields that a schema doesn't know, or that are given twice.</summary>
internal enum FieldValidation
{
    Ignore,
    Warn,
    Strict,
}

/// <summary>How a write is to be done (metav1.CreateOptions, UpdateOptions, PatchOptions).</summary>
internal sealed class WriteOptions
{
    public bool DryRun { get; init; }

    public string FieldManager { get; init; } = "unknown";

    public FieldValidation FieldValidation { get; init; } = FieldValidation.Warn;

    public bool Force { get; init; }

    /// <summary>Warnings for the answer's headers.</summary>
    public List<string> Warnings { get; } = [];
}

/// <summary>How an object is to be deleted (metav1.DeleteOptions).</summary>
internal sealed record DeleteOptions(bool DryRun = false, string? Uid = null, string? ResourceVersion = null, bool Orphan = false);
