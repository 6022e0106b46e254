using System.Text.Json;

namespace PciOperator.Kubernetes;

internal static class JsonReaders
{
    /// <summary>
    /// Goes to the end of a reader's value. A converter's whole value is at hand, also of an answer that comes bit by bit, but
    /// <see cref="Utf8JsonReader.Skip"/> refuses as long as the end of the document isn't.
    /// </summary>
    /// <exception cref="JsonException">The value is cut off.</exception>
    public static void PassOver(this ref Utf8JsonReader reader)
    {
        if (!reader.TrySkip())
            throw new JsonException("The value is cut off.");
    }
}
