namespace PciOperator.Import;

/// <summary>A text to import from.</summary>
/// <param name="Name">Its name, for messages.</param>
/// <param name="Text">The text.</param>
public sealed record SourceFile(string Name, string Text);
