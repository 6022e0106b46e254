namespace PciOperator.Cli.Diagnose;

/// <summary>What findings are written with.</summary>
internal static class Words
{
    /// <summary>What somebody else said, as a sentence.</summary>
    public static string Sentence(string? text)
    {
        string trimmed = (text ?? "").Trim();
        return trimmed.Length == 0 ? "nothing more is said."
            : trimmed[^1] is '.' or '!' or '?' ? trimmed
            : trimmed + ".";
    }

    /// <summary>The text as the beginning of a sentence.</summary>
    public static string Capital(string text) => text.Length == 0 ? text : $"{char.ToUpperInvariant(text[0])}{text[1..]}";

    /// <summary>So many entries of a VM.</summary>
    public static string Entries(int number) => number == 1 ? "1 entry" : $"{number} entries";

    /// <summary>The name that was meant, as far as can be guessed; null: none is near.</summary>
    public static string? Nearest(string? name, IEnumerable<string> known)
    {
        // A slip of one letter in a short name, of three in a long one.
        (string Name, int Distance)? best = null;
        foreach (string candidate in known.Order(StringComparer.Ordinal))
        {
            int distance = Distance(name ?? "", candidate);
            if (distance <= 1 + (candidate.Length / 6) && (best is null || distance < best.Value.Distance))
                best = (candidate, distance);
        }

        return best?.Name;
    }

    /// <summary>How many letters have to be added, removed or changed (Levenshtein).</summary>
    private static int Distance(string a, string b)
    {
        int[] row = [.. Enumerable.Range(0, b.Length + 1)];
        for (int i = 1; i <= a.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.Length; j++)
            {
                int changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.Min(changed, 1 + Math.Min(row[j], row[j - 1]));
            }
        }

        return row[b.Length];
    }
}
