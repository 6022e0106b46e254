namespace PciOperator.Core;

/// <summary>
/// A device spec, alias or request says something that can't be meant. The only exception that this project's parsers throw.
/// </summary>
public sealed class SpecFormatException : FormatException
{
    /// <summary>Makes the error.</summary>
    /// <param name="field">The field it is about, by the name that the text uses: <c>vendorId</c>, <c>address</c>, …</param>
    /// <param name="message">What is wrong and what would be right, as a sentence.</param>
    public SpecFormatException(string field, string message)
        : base(message) => Field = field;

    /// <summary>Makes the error around its cause.</summary>
    public SpecFormatException(string field, string message, Exception inner)
        : base(message, inner) => Field = field;

    /// <summary>The field it is about.</summary>
    public string Field { get; }
}
