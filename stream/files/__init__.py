"""Files that people bring, read: past answers in the formats in which they are downloaded, and academic records."""
