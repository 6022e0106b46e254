using System.Diagnostics.CodeAnalysis;

namespace PciOperator.Api;

/// <summary>What of a text, or of a list, fits into a field that takes so much.</summary>
public static class Fitted
{
    /// <summary>The text, cut to a length; an ellipsis says so.</summary>
    /// <param name="text">Any text.</param>
    /// <param name="most">The characters that the field takes.</param>
    [return: NotNullIfNotNull(nameof(text))]
    public static string? Text(string? text, int most) => text is not null && text.Length > most ? text[..(most - 1)] + "…" : text;

    /// <summary>A list's first items that fit; the list itself when all do.</summary>
    /// <inheritdoc cref="Count{T}"/>
    public static IReadOnlyList<T> Items<T>(IReadOnlyList<T> items, int most, int room, Func<T, int> size)
    {
        int count = Count(items, most, room, size);
        return count == items.Count ? items : [.. items.Take(count)];
    }

    /// <summary>How many of a list's first items fit.</summary>
    /// <param name="items">The list, what matters most first.</param>
    /// <param name="most">The items that the field takes.</param>
    /// <param name="room">The bytes that there are for all of them.</param>
    /// <param name="size">The bytes that one takes.</param>
    public static int Count<T>(IReadOnlyList<T> items, int most, int room, Func<T, int> size)
    {
        ArgumentNullException.ThrowIfNull(items);
        ArgumentNullException.ThrowIfNull(size);
        (int count, int taken) = (0, 0);
        while (count < items.Count && count < most)
        {
            taken += size(items[count]);
            if (taken > room)
                break;
            count++;
        }

        return count;
    }
}
