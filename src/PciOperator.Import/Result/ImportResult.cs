using System.Text;
using PciOperator.Kubernetes;

namespace PciOperator.Import;

/// <summary>What can't be meant, or would be refused where it comes from.</summary>
/// <param name="File">The file.</param>
/// <param name="Line">The line, from 1; null: the whole file.</param>
/// <param name="Message">What is wrong and what would be right.</param>
public sealed record ImportError(string File, int? Line, string Message)
{
    /// <summary><c>file:line: message</c>, in one line.</summary>
    public override string ToString() => CommentText.OneLine(Line is { } line ? $"{File}:{line}: {Message}" : $"{File}: {Message}");
}

/// <summary>What an import made.</summary>
public sealed class ImportResult
{
    /// <summary>The objects, in the order in which they should be applied.</summary>
    public required IReadOnlyList<ImportedObject> Objects { get; init; }

    /// <summary>What is said of the whole.</summary>
    public required IReadOnlyList<string> Notes { get; init; }

    /// <summary>What was refused.</summary>
    public required IReadOnlyList<ImportError> Errors { get; init; }

    /// <summary>
    /// One YAML text: each object with its notes above it as comments, and at the end what was not imported, as a comment too: who applies it
    /// through a pipe has lost nothing that was said.
    /// </summary>
    public string ToYaml()
    {
        var yaml = new StringBuilder();
        foreach (string note in Notes)
            CommentText.Append(yaml, note);
        if (Notes.Count > 0)
            yaml.Append('\n');
        for (int i = 0; i < Objects.Count; i++)
        {
            ImportedObject one = Objects[i];
            if (i > 0)
                yaml.Append("---\n");
            foreach (string note in one.Notes)
                CommentText.Append(yaml, note);
            yaml.Append(YamlText.Of(one.Json));
        }

        // No document of comments alone: not every reader of YAML takes that for none.
        if (Errors.Count > 0 && Objects.Count > 0)
            yaml.Append('\n');
        foreach (ImportError error in Errors)
            CommentText.Append(yaml, $"NOT IMPORTED: {error}");
        return yaml.ToString();
    }
}
