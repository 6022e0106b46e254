namespace PciOperator.Host;

/// <summary>The work can't go on: a word of <see cref="HoldingReasons"/> and a sentence.</summary>
internal sealed class RefusalException(string reason, string message) : Exception(message)
{
    public string Reason { get; } = reason;
}
